"""Sign without a key of one's own: as the identity that a CI system or an identity provider vouches for.

A trust configuration (`clienttrustconfig.v0.1+json`) names the services of one Sigstore, public or private, and its
trusted root. With an identity token, a key is made that lives for this run; the certificate authority certifies to whom
it belonged; each signature is timestamped and logged. What comes out is the bundle that cosign writes, with the same
claims.

The token goes to the certificate authority and nowhere else, and never into a message. The services are asked once
each, with a limit on time. Every signature is checked with the configuration's own trusted root by the one who stores
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ocisync.kit.strictjson import Malformed, parse_json_object
from ocisync.model.errors import AccessDenied, InvalidInput, OcisyncError, Unavailable, UsageError
from ocisync.model.evidence import Identity
from ocisync.model.limits import TRUSTED_ROOT_BYTES
from ocisync.model.values import dataclass
from ocisync.signing.keyless import require_library
from ocisync.signing.roots import TrustedRoot, load_root
from ocisync.signing.statement import statement

_MEDIA_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_CONNECT_S, _ANSWER_S = 10.0, 60.0  # a log answers when the entry is included, which takes seconds
_WAYS_TO_IDENTITY = (
    "GitHub: give the job the permission id-token (write); GitLab: id_tokens with SIGSTORE_ID_TOKEN for the audience"
    " sigstore; elsewhere: --identity-token FILE"
)


@dataclass(frozen=True, slots=True)
class TrustConfig:
    """Where one Sigstore is, and its trusted root."""

    document: str
    root: TrustedRoot


def load_trust_config(data: bytes, *, name: str = "trust configuration") -> TrustConfig:
    """Read a trust configuration.

    Raises:
        InvalidInput: it is none, or the library for it is not installed.
    """
    require_library()
    try:
        document = parse_json_object(data, max_bytes=2 * TRUSTED_ROOT_BYTES)
    except Malformed as error:
        raise InvalidInput(f"{name}: {error}") from None
    root, signing = document.get("trustedRoot"), document.get("signingConfig")
    if document.get("mediaType") != _MEDIA_TYPE or not isinstance(root, dict) or not isinstance(signing, dict):
        raise InvalidInput(
            f"{name}: not a Sigstore trust configuration ({_MEDIA_TYPE})",
            hint='write {"mediaType": …, "trustedRoot": trusted_root.json, "signingConfig": signing_config.json}',
        )
    # Zero values are left out by protobuf's writers and required by the library.
    filled = {
        field: {"selector": "ANY", **value} if field in {"rekorTlogConfig", "tsaConfig"} else value
        for field, value in signing.items()
    }
    text = json.dumps({**document, "signingConfig": filled})
    return TrustConfig(text, load_root(json.dumps(root).encode(), name=name))


def public_trust_config() -> TrustConfig:
    """The trust configuration of the public Sigstore, refreshed by its update framework (TUF).

    For signing only, where the network is needed anyway: verification is always given its root.

    Raises:
        InvalidInput: the library is not installed.
        Unavailable: it could not be fetched.
    """
    require_library()
    from sigstore.models import ClientTrustConfig

    with _translated("the public Sigstore's trust configuration"):
        document: str = ClientTrustConfig.production()._inner.to_json()
    return load_trust_config(document.encode(), name="the public Sigstore's trust configuration")


def ambient_token() -> str:
    """The identity token of the CI system that this runs in.

    Raises:
        InvalidInput: the library is not installed.
        UsageError: there is none.
        AccessDenied: the CI system has one and does not give it.
    """
    require_library()
    from sigstore.oidc import IdentityError, detect_credential

    try:
        found: str | None = detect_credential()
    except IdentityError as error:
        raise AccessDenied(f"no identity token: {_words(error)}", hint=_WAYS_TO_IDENTITY) from None
    if not found:
        raise UsageError("no identity: this is not a CI system that hands out identity tokens", hint=_WAYS_TO_IDENTITY)
    return found


class KeylessSigner:
    """One identity for one run. The certificate is asked for when it is first needed."""

    def __init__(self, config: TrustConfig, token: str) -> None:
        """Take an identity token.

        Raises:
            AccessDenied: it is no identity token for Sigstore, or it has expired.
        """
        require_library()
        from sigstore.oidc import IdentityToken

        self._config = config
        with _translated("the identity token"):
            self._token = IdentityToken(token)
        self._context: Any = None
        self._signer: Any = None
        self._identity: Identity | None = None

    @property
    def root(self) -> TrustedRoot:
        """The trusted root under which the signatures are good."""
        return self._config.root

    @property
    def fingerprint(self) -> str:
        """Who signs: the name of the signer in evidence.

        Raises:
            AccessDenied, Unavailable: the certificate authority gave no certificate.
        """
        return self.identity.signer

    @property
    def identity(self) -> Identity:
        """Who signs, as the certificate says it: without proofs.

        Raises:
            AccessDenied, Unavailable: the certificate authority gave no certificate.
        """
        if self._identity is None:
            self._certify()
        if self._identity is None:
            raise Unavailable("the certificate authority gave no certificate")
        return self._identity

    def make(self, digest: str, claims: Mapping[str, str]) -> bytes:
        """Sign `digest` with `claims`; the bundle's JSON bytes.

        Raises:
            AccessDenied, Unavailable: one of the services did not do its part.
        """
        # The library wants a name in the statement; an empty one is what it writes itself.
        return self.make_of(statement(digest, claims, name=""))

    def make_of(self, payload: bytes) -> bytes:
        """Sign a statement; the bundle's JSON bytes.

        Raises:
            AccessDenied, Unavailable: one of the services did not do its part.
        """
        from sigstore.dsse import Statement

        self._certify()
        with _translated("signing"):
            made = self._signer.sign_dsse(Statement(payload))
        return json.dumps(json.loads(made.to_json()), separators=(",", ":"), ensure_ascii=False).encode()

    def _certify(self) -> None:
        if self._signer is not None:
            return
        from cryptography.hazmat.primitives.serialization import Encoding
        from sigstore.models import ClientTrustConfig
        from sigstore.sign import Signer, SigningContext

        with _translated("the certificate"):
            context = SigningContext.from_trust_config(ClientTrustConfig.from_json(self._config.document))
            sessions = [
                context._fulcio.session,
                *(client._session for client in (context._rekor, *context._tsa_clients)),
            ]
            for session in sessions:
                # The library sets no limits of its own.
                session.request = partial(session.request, timeout=(_CONNECT_S, _ANSWER_S))
            signer = Signer(self._token, context)
            der: bytes = signer._signing_cert().public_bytes(Encoding.DER)
        try:
            from ocisync.signing.certificate import read_identity  # its library is large; keys sign without it

            self._identity = read_identity(der)
        except Malformed as error:
            raise Unavailable(f"the certificate authority's certificate is unusable: {error}") from None
        self._signer = signer


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """The library's many kinds of errors as ours. None of them quotes the token."""
    from sigstore.errors import Error, TUFError
    from sigstore.oidc import ExpiredIdentity, IdentityError

    try:
        yield
    except OcisyncError:
        raise
    except (IdentityError, ExpiredIdentity) as error:
        raise AccessDenied(f"{what}: {_words(error)}", hint="get a new identity token; they live for minutes") from None
    except (OSError, TUFError) as error:
        raise Unavailable(f"{what}: a Sigstore service did not answer: {_words(error)}", hint="try again") from None
    except (Error, ValueError) as error:
        raise InvalidInput(f"{what}: {_words(error)}", hint="check the trust configuration") from None
    except Exception as error:
        refused = _status_of(error)
        if 400 <= refused < 500 and refused != 429:
            raise AccessDenied(
                f"{what}: a Sigstore service refused it: {_words(error)}",
                hint="check issuer, audience and age of the token",
            ) from None
        if "ClientError" not in type(error).__name__ and "Expired" not in type(error).__name__:
            raise
        raise Unavailable(f"{what}: a Sigstore service failed: {_words(error)}", hint="try again") from None


def _status_of(error: BaseException) -> int:
    """The HTTP status behind an error of one of the library's clients; 0 if there is none."""
    for cause in (error, error.__cause__, *error.args):
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        if isinstance(status, int) and status:
            return status
    return 0


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
