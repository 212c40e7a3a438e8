"""Write a policy that works, with comments that say what each line decides.

The text is YAML; whoever prints it parses it first, so that no draft is ever refused by the agent.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from ocisync.model.spec import API_VERSION, POLICY_KIND
from ocisync.model.values import dataclass


@dataclass(frozen=True, slots=True)
class DraftKey:
    """A public key that may sign."""

    name: str
    pem: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class DraftIdentity:
    """An identity that may sign. Exactly one of `subject` and `glob` is set."""

    name: str
    issuer: str
    subject: str = ""
    glob: str = ""
    source_repository: str = ""
    root: str = "sigstore-root"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a policy shall say.

    Attributes:
        max_age: a duration like 720h; empty for none.
        remaps: for a mirror: repositories that signatures name, and where they are here.
    """

    name: str
    repositories: Sequence[str]
    keys: Sequence[DraftKey] = ()
    identities: Sequence[DraftIdentity] = ()
    threshold: int = 1
    max_age: str = ""
    remaps: Sequence[tuple[str, str]] = ()


def render(draft: Draft) -> str:
    """The policy as YAML."""
    return "\n".join(_lines(draft)) + "\n"


def _lines(draft: Draft) -> Iterator[str]:
    count = len(draft.keys) + len(draft.identities)
    yield "# Who may sign what this cluster runs. Everything that no policy allows is refused."
    yield f"apiVersion: {API_VERSION}"
    yield f"kind: {POLICY_KIND}"
    yield f"metadata: {{name: {_text(draft.name)}}}"
    yield "spec:"
    yield "  # An exact repository, or prefix/* for all below it. The longest match decides alone (and floors with it)."
    yield "  match:"
    yield from (f"  - {{repository: {_text(repository)}}}" for repository in draft.repositories)
    yield "  authorities:"
    for key in draft.keys:
        yield f"  - name: {_text(key.name)}"
        yield f"    # {key.fingerprint}"
        yield "    key:"
        yield "      pem: |"
        yield textwrap.indent(key.pem.strip(), "        ")
    for identity in draft.identities:
        yield from _identity(identity)
    yield f"  # So many different ones of the {count} above must have signed. With 2, one stolen key is not enough."
    yield f"  threshold: {draft.threshold}"
    yield "  # Format of cosign 3 and of ocisync. Add Legacy only for signatures that exist in no other form."
    yield "  formats: [Bundle]"
    yield "  # A signature must name this repository and this tag: copied elsewhere, it does not count."
    if draft.remaps:
        yield "  # What is mirrored was signed under another name."
        yield "  repositoryClaim:"
        yield "    mode: Require"
        yield "    remap:"
        yield from (f"    - {{signed: {_text(old)}, here: {_text(new)}}}" for old, new in draft.remaps)
    else:
        yield "  repositoryClaim: {mode: Require}"
    yield "  tagClaim: Require"
    yield "  # Nothing older than what was accepted before."
    if draft.max_age:
        yield f"  # And nothing signed more than {draft.max_age} ago: renew it in time with `ocisync sign --refresh`."
        yield f"  rollback: {{monotonic: Sequence, maxAge: {_text(draft.max_age)}}}"
    else:
        yield "  # maxAge: 720h here would end trust in what nobody renews."
        yield "  rollback: {monotonic: Sequence}"
    yield "  # In an emergency: what is listed here stops every write at once. Keep a denied key's authority above."
    yield "  deny: {digests: [], keys: [], revisions: []}"
    yield "  # When signatures no longer suffice: Correct goes on undoing drift of what runs, Suspend does not."
    yield "  onRevoked: Correct"
    yield "  mode: Enforce"


def _identity(identity: DraftIdentity) -> Iterator[str]:
    yield f"  - name: {_text(identity.name)}"
    yield "    keyless:"
    yield f"      issuer: {_text(identity.issuer)}"
    if identity.glob:
        yield "      # * is any run of characters without /"
        yield f"      subjectGlob: {_text(identity.glob)}"
    else:
        yield f"      subject: {_text(identity.subject)}"
    if identity.source_repository:
        yield f"      claims: {{sourceRepository: {_text(identity.source_repository)}}}"
    yield "      # a Secret or ConfigMap of the agent's namespace with one entry trusted_root.json"
    yield f"      trustedRootRef: {{name: {_text(identity.root)}}}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
