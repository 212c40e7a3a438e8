"""Keyless authorities: which identities, certified by whom, may sign.

    keyless: {issuer: exact, subject: exact | subjectGlob: glob, claims: {NAME: exact}, trustedRootRef: {name}}

Issuer and subject are both required; a glob's host or mail domain must be spelled out. On GitHub and GitLab a subject
is a *workflow*, which other people's repositories may be able to call: there the source repository (or its id, or its
owner's id) must be stated too, or follow from an exact subject: then the workflow must belong to the repository that
it was run for.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ocisync.model.errors import InvalidInput
from ocisync.model.evidence import Identity
from ocisync.model.values import dataclass
from ocisync.policy.fields import Fields
from ocisync.policy.globs import glob_matches

# Names of the claims that a certificate can carry.
CLAIM_NAMES = (
    "buildConfig", "buildConfigDigest", "buildSigner", "buildSignerDigest", "buildTrigger", "runInvocation",
    "runnerEnvironment", "sourceRepository", "sourceRepositoryDigest", "sourceRepositoryId", "sourceRepositoryOwner",
    "sourceRepositoryOwnerId", "sourceRepositoryRef", "sourceRepositoryVisibility",
)  # fmt: skip
_SOURCE_CLAIMS = frozenset({"sourceRepository", "sourceRepositoryId", "sourceRepositoryOwnerId"})
_SUBJECT_CHARS = 1_024
_GITHUB = "/.github/workflows/"
_FORGES = frozenset({"token.actions.githubusercontent.com", "github.com", "gitlab.com"})


@dataclass(frozen=True, slots=True)
class Keyless:
    """One rule about identities. Exactly one of `subject` and `subject_glob` is set.

    Attributes:
        claims: certificate claims that must have exactly these values, sorted.
        root_ref: name of the Secret or ConfigMap with the trusted root.
        root: fingerprint of the trusted root, once it was read.
    """

    issuer: str
    subject: str = ""
    subject_glob: str = ""
    claims: tuple[tuple[str, str], ...] = ()
    root_ref: str = ""
    root: str = ""

    def mismatch(self, identity: Identity) -> str:
        """Why the rule is not about `identity`, to follow "authority NAME wants …"; empty if it is."""
        if identity.proof(self.root) is None:
            return "another trusted root"
        if identity.issuer != self.issuer:
            return f"the issuer {self.issuer}"
        if self.subject and identity.subject != self.subject:
            return f"the subject {self.subject}"
        if self.subject_glob and not glob_matches(self.subject_glob, identity.subject):
            return f"a subject like {self.subject_glob}"
        stated = dict(identity.claims)
        for name, wanted in self.claims:
            if stated.get(name) != wanted:
                found = stated[name][:200] if name in stated else "not stated"
                return f"{name} {wanted}, which is {found}"
        return ""


def parse_keyless(fields: Fields) -> Keyless:
    """Parse a `keyless` object.

    Raises:
        InvalidInput: naming the field.
    """
    claims = fields.child("claims", CLAIM_NAMES)
    reference = fields.child("trustedRootRef", ("name",))
    return make_keyless(
        issuer=fields.text("issuer"),
        subject=fields.text("subject", ""),
        subject_glob=fields.text("subjectGlob", ""),
        claims={name: claims.text(name) for name in CLAIM_NAMES if claims.has(name)},
        root_ref=reference.text("name"),
        where=fields.where,
    )


def make_keyless(
    *,
    issuer: str,
    subject: str = "",
    subject_glob: str = "",
    claims: Mapping[str, str],
    root_ref: str = "",
    root: str = "",
    where: str = "keyless",
) -> Keyless:
    """A rule about identities, checked.

    Raises:
        InvalidInput: it names nobody, or too many.
    """
    if not _is_url(issuer):
        raise InvalidInput(f"{where}.issuer: {issuer[:100]!r} is no exact URL like https://token.example")
    if bool(subject) == bool(subject_glob):
        raise InvalidInput(f"{where}: set exactly one of subject, subjectGlob")
    name, text = ("subjectGlob", subject_glob) if subject_glob else ("subject", subject)
    if len(text) > _SUBJECT_CHARS or not text.isprintable():
        raise InvalidInput(f"{where}.{name}: longer than {_SUBJECT_CHARS} characters, or not printable")
    if subject and "*" in subject:
        raise InvalidInput(
            f"{where}.subject: {subject[:100]!r} is taken literally, and * is no part of any identity",
            hint="write subjectGlob",
        )
    if subject_glob:
        _check_glob(subject_glob, f"{where}.subjectGlob")
    stated = dict(claims)
    if _is_workflow(issuer, text) and not _SOURCE_CLAIMS & set(stated):
        stated["sourceRepository"] = _repository_of(text, where, exact=bool(subject))
    return Keyless(issuer, subject, subject_glob, tuple(sorted(stated.items())), root_ref, root)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    plain = text.isprintable() and "*" not in text and not any(char.isspace() for char in text)
    return plain and parts.scheme in {"https", "http"} and bool(parts.hostname) and len(text) <= _SUBJECT_CHARS


def _check_glob(glob: str, where: str) -> None:
    """Whose namespace it is must not be left open."""
    scheme, separator, rest = glob.partition("://")
    first, *segments = glob.split("/")
    if separator:
        literal = scheme + rest.partition("/")[0]
        what = "scheme and host"
    elif len(segments) > 1 and first.endswith((":", "*")) and not segments[0].strip("*"):
        literal, what = "", "scheme and host"  # "https:/*/*/x" matches "https://HOST/x": * may be nothing
    elif "@" in glob:
        literal, what = glob.rpartition("@")[2], "mail domain"
    else:
        literal, what = glob.split("*")[0], "beginning"
    if not literal or "*" in literal:
        raise InvalidInput(f"{where}: {glob[:100]!r} leaves the {what} open", hint="* may stand for later parts only")


def _is_workflow(issuer: str, subject: str) -> bool:
    """Whether subjects are files of repositories that others may be able to run."""
    host = urlsplit(issuer).hostname or ""
    if host in _FORGES or host.endswith(".ghe.com") or _GITHUB in subject or "@refs/" in subject:
        return True
    _, separator, rest = subject.partition("://")
    return bool(separator) and ("//" in rest or rest.partition("/")[0] in _FORGES)


def _repository_of(subject: str, where: str, *, exact: bool) -> str:
    """The repository that an exact subject's workflow file is in.

    Raises:
        InvalidInput: a glob, or a subject that does not tell.
    """
    scheme, _, rest = subject.partition("://")
    for mark in (_GITHUB, "//"):
        repository, found, _ = rest.partition(mark)
        if exact and found and repository.count("/") >= (2 if mark == _GITHUB else 1):
            return f"{scheme}://{repository}"
    raise InvalidInput(
        f"{where}: says which workflow, not for which repository it ran: others may be able to call the workflow",
        hint="add claims: {sourceRepository: https://HOST/OWNER/REPOSITORY}",
    )
