"""Identity tokens as CI systems and people have them, and the documents by which Fulcio checks them.

One key signs for all issuers. The issuers' URLs name loopback ports inside the private Sigstore's network namespace;
only Fulcio ever calls them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PEOPLE = "http://127.0.0.1:15060"
GITHUB = "http://127.0.0.1:15061"
GITLAB = "http://127.0.0.1:15063"
KINDS = {PEOPLE: "email", GITHUB: "github-workflow", GITLAB: "gitlab-pipeline"}  # as Fulcio names them
COMMIT = "5d4d9dd6f2a6e1b1e6a3f9c1f6a4fb1f0c0d0e0f"


def fulcio_config() -> dict[str, Any]:
    """Fulcio's configuration, as JSON."""
    return {
        "OIDCIssuers": {url: {"IssuerURL": url, "ClientID": "sigstore", "Type": kind} for url, kind in KINDS.items()}
    }


def discovery(issuer: str) -> dict[str, Any]:
    """`/.well-known/openid-configuration`"""
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/keys",
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


def jwks(key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """The key set that the discovery document points to."""
    numbers = key.public_numbers()
    point = {name: _base64url(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
    return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": _key_id(key), **point}]}


def token(key: ec.EllipticCurvePrivateKey, issuer: str, claims: Mapping[str, Any], *, lifetime_s: int = 600) -> str:
    """A signed identity token for the audience `sigstore`."""
    now = int(time.time())
    times = {"iss": issuer, "aud": "sigstore", "iat": now, "nbf": now, "exp": now + lifetime_s}
    header = {"alg": "ES256", "typ": "JWT", "kid": _key_id(key.public_key())}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, {**times, **claims}))
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def person(mail: str) -> dict[str, Any]:
    """What an identity provider says about somebody."""
    return {"sub": mail, "email": mail, "email_verified": True}


def github_run(repository: str, workflow: str, ref: str) -> dict[str, Any]:
    """What GitHub says about a job of `repository` that runs `workflow`: OWNER/NAME/.github/workflows/FILE@REF."""
    owner = repository.partition("/")[0]
    return {
        "sub": f"repo:{repository}:ref:{ref}",
        "job_workflow_ref": workflow,
        "job_workflow_sha": COMMIT,
        "workflow_ref": f"{repository}/.github/workflows/release.yml@{ref}",
        "workflow_sha": COMMIT,
        "workflow": "release",
        "sha": COMMIT,
        "ref": ref,
        "event_name": "push",
        "repository": repository,
        "repository_id": str(len(repository) * 1000),
        "repository_owner": owner,
        "repository_owner_id": str(len(owner) * 100),
        "repository_visibility": "public",
        "runner_environment": "github-hosted",
        "run_id": "7",
        "run_attempt": "1",
    }


def gitlab_job(project: str, ref: str) -> dict[str, Any]:
    """What GitLab says about a job of `project` on the branch `ref`."""
    return {
        "sub": f"project_path:{project}:ref_type:branch:ref:{ref}",
        "project_path": project,
        "project_id": "11",
        "project_visibility": "public",
        "namespace_path": project.rpartition("/")[0],
        "namespace_id": "12",
        "pipeline_source": "push",
        "pipeline_id": "13",
        "job_id": "14",
        "ref": ref,
        "ref_type": "branch",
        "sha": COMMIT,
        "ci_config_ref_uri": f"gitlab.com/{project}//.gitlab-ci.yml@refs/heads/{ref}",
        "ci_config_sha": COMMIT,
        "runner_environment": "gitlab-hosted",
        "runner_id": 15,
    }


def _key_id(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
