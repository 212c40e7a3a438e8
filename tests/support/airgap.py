"""A site's releases as CI makes them, with everything that has to cross an air gap: what both sides of it need to know.

`publish` pushes releases with the real command line: each signed in both formats, with provenance, naming images by
the names that people write. The images have two platforms each and signatures of their own; they are in a cache of the
near registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from ocisync.cli.app import run
from ocisync.model.image import parse_image
from ocisync.oci.client import open_store
from ocisync.signing.keys import dump_private, generate
from tests.support.agent import deployment
from tests.support.closures import push_platforms
from tests.support.cosign import Cosign
from tests.support.gitrepo import GitRepo
from tests.support.images import quick

PROVENANCE = "https://slsa.dev/provenance/v1"
ENGINE_PATH = "Engine.site.example=/spec/image"
_HUB, _OTHER = "docker.io", "quay.io"


@dataclass(frozen=True, slots=True)
class Releases:
    """What was published. `digests` by version, the last of them is also `production`; `images` as manifests say."""

    repository: str
    cache: str
    digests: Mapping[str, str]
    images: tuple[str, ...]
    directory: Path

    @property
    def production(self) -> str:
        """The digest that the far side is to run."""
        return list(self.digests.values())[-1]

    @property
    def images_from(self) -> tuple[str, ...]:
        """Where a mirror finds the images: flags for it."""
        pairs = [f"{host}={self.cache}/{host}" for host in (_HUB, _OTHER)]
        return tuple(part for pair in pairs for part in ("--images-from", pair))

    def key(self, name: str) -> str:
        """A key file: release.pub, sender.key, …"""
        return str(self.directory / name)


def cached(cache: str, image: str) -> str:
    """Where the near registry keeps an image."""
    reference = parse_image(image)
    return f"{cache}/{reference.repository}"


def publish(host: str, name: str, directory: Path, artifacts: int, images: int) -> Releases:
    """Fill a registry. `name` keeps apart what several tests publish."""
    signers = {role: generate() for role in ("release", "sender")}
    for role, signer in signers.items():
        (directory / f"{role}.key").write_bytes(dump_private(signer, password=None))
        (directory / f"{role}.pub").write_text(signer.public.pem)
    cache, repository = f"{host}/{name}/cache", f"{host}/{name}/shop"
    names = []
    for number in range(images):
        text = f"img-{number}:1.{number}" if number % 2 else f"{_OTHER}/team/img-{number}:1.{number}"
        reference = parse_image(text)
        with open_store(cached(cache, text), quick()) as store:
            digest = push_platforms(store, text, reference.tag, signers["release"])
        names.append(f"{text}@{digest}" if number % 3 == 0 else text)
    git, digests = GitRepo(directory / "repo"), {}
    git.write({"base/engine.yaml": yaml.safe_dump_all([_engines(), _engine(names[0])])})
    for number in range(artifacts):
        last = number == artifacts - 1
        wanted = names if last else [names[number % images], names[(number + 1) % images]]
        made = [deployment(f"web-{at}", replicas=1, image=image) for at, image in enumerate(wanted)]
        at = datetime.now(UTC) - timedelta(minutes=artifacts - number)
        git.commit({"apps/web.yaml": yaml.safe_dump_all(made), "VERSION": f"{number}\n"}, at=at.isoformat())
        digests[f"1.{number}.0"] = _pushed(git, repository, f"1.{number}.0", directory, last=last)
    return Releases(repository, cache, digests, tuple(names), directory)


def _pushed(git: GitRepo, repository: str, version: str, directory: Path, *, last: bool) -> str:
    references = [f"oci://{repository}:{version}", *([f"oci://{repository}:production"] if last else [])]
    flags = ("--sign-key", str(directory / "release.key"), "--legacy-signature", "--provenance", "-q")
    assert run(["push", str(git.path), *references, *flags]) == 0, version
    with open_store(repository, quick()) as store:
        found = store.resolve(version)
    assert found is not None
    return found.digest


def _engines() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "engines.site.example"},
        "spec": {
            "group": "site.example",
            "scope": "Namespaced",
            "names": {"plural": "engines", "singular": "engine", "kind": "Engine", "listKind": "EngineList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _engine(image: str) -> dict[str, Any]:
    return {"apiVersion": "site.example/v1", "kind": "Engine", "metadata": {"name": "main"}, "spec": {"image": image}}


def policy(repository: str, key: str, remap: Iterable[Mapping[str, str]] = ()) -> dict[str, Any]:
    """The rules of both sides; the far one adds what its names were when they were signed."""
    return {
        "match": [{"repository": repository}],
        "formats": ["Bundle"],
        "authorities": [{"name": "release-key", "key": {"pem": Path(key).read_text()}}],
        "threshold": 1,
        "repositoryClaim": {"mode": "Require", "remap": list(remap)},
        "tagClaim": "Require",
        "attestations": [{"predicateType": PROVENANCE, "authorities": ["release-key"]}],
    }


def write_policy(path: Path, spec: Mapping[str, Any]) -> str:
    """The same as a file for the command line."""
    document = {
        "apiVersion": "ocisync.dev/v1alpha1", "kind": "TrustPolicy", "metadata": {"name": "shop"}, "spec": dict(spec),
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return str(path)


def cosign_verdicts(cosign: Cosign, repository: str, digests: Iterable[str], key: str) -> list[str]:
    """What the real cosign refuses of both formats and of the provenance; empty is good."""
    from ocisync.kit.pool import map_bounded

    common = ("--key", key, "--insecure-ignore-tlog=true")
    checks: tuple[tuple[str, ...], ...] = (
        ("verify", *common),
        ("verify", *common, "--new-bundle-format=false"),
        ("verify-attestation", *common, "--type", "slsaprovenance1"),
    )

    def refused(work: tuple[str, tuple[str, ...]]) -> str:
        digest, check = work
        try:
            said = cosign.run(*check, f"{repository}@{digest}")
        except AssertionError as error:
            return str(error)
        return "" if digest.removeprefix("sha256:") in said or _names(said, digest) else f"{check[0]}: {said[:200]}"

    found = map_bounded(refused, [(digest, check) for digest in digests for check in checks], workers=2)
    return [text for text in found if text]


def _names(said: str, digest: str) -> bool:
    """Whether an attestation that cosign printed is about a digest."""
    import base64

    for line in said.splitlines():
        if line.startswith("{"):
            statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
            if any(one["digest"].get("sha256") == digest.removeprefix("sha256:") for one in statement["subject"]):
                return True
    return False
