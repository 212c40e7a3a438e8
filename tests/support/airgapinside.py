"""The far side of an air gap: a network namespace with nothing but loopback, into which only a file has come.

    unshare --net python -m tests.support.airgapinside CONFIG

A registry, the real cosign, a real control plane with nodes, and the agent with the installed rights all start in here.
CONFIG is JSON; what was found is the last line of standard output, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ocisync.cli.app import run
from ocisync.model.image import parse_image
from ocisync.oci.client import open_store
from ocisync.signing.keys import load_private
from tests.support import airgap
from tests.support.agent import Installation, Tenant, running
from tests.support.closures import everything
from tests.support.controlplane import ControlPlane, Programs
from tests.support.cosign import Cosign
from tests.support.images import quick
from tests.support.kwok import Kwok
from tests.support.offlineinside import Counters
from tests.support.registries import Distribution, Olareg, Registry
from tests.support.sigstoreinside import loopback_up

_REGISTRIES: dict[str, type[Registry]] = {"distribution": Distribution, "olareg": Olareg}


def command(*arguments: str) -> dict[str, Any]:
    """Run a command that prints JSON in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments, "-o", "json"])
    if code != 0:
        raise AssertionError(f"{arguments} → {code}: {err.getvalue()}")
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def load(config: dict[str, Any], directory: Path, place: str) -> dict[str, Any]:
    """Check the file, load it by the far side's own rules, and say what is there now."""
    file, sender, key = config["file"], config["sender"], config["key"]
    names = command("mirror", "map", file, place, "--image-path", airgap.ENGINE_PATH)
    rules = airgap.write_policy(directory / "far.yaml", airgap.policy(place, key, names["remap"]))
    trust = ("--policy", rules, "--sender-key", sender)
    before = Counters()
    verified = command("mirror", "verify", file, *trust, "--at", place)
    loaded = command("mirror", "load", file, place, *trust)
    after = Counters()
    again = command("mirror", "load", file, place, *trust)
    here = {name: _plain(everything(repository)) for name, repository in loaded["repositories"].items()}
    return {
        "names": names,
        "verified": len([one for one in verified["judged"] if one["judged"] and one["allowed"]]),
        "refused": loaded["refused"],
        "failed": loaded["failed"],
        "moved": loaded["moved"],
        "again": again["moved"],
        "datagrams": after.datagrams - before.datagrams,
        "without route": after.without_route - before.without_route,
        "repositories": here,
    }


def _plain(found: Any) -> dict[str, Any]:
    """A repository in JSON, manifests by digest alone: they were hashed."""
    data = asdict(found)
    return {
        "tags": data["tags"],
        "manifests": sorted(data["manifests"]),
        "referrers": {digest: sorted(others) for digest, others in data["referrers"].items()},
        "blobs": sorted(data["blobs"]),
    }


def reconcile(config: dict[str, Any], directory: Path, place: str, names: dict[str, Any]) -> dict[str, Any]:
    """An agent with the near side's policy, remapped, on a control plane in here."""
    plane = ControlPlane(Programs.find(), directory / "control-plane")
    plane.start()
    kwok = Kwok(Path(config["kwok"]), plane)
    try:
        kwok.start(nodes=2)
        installation = Installation(plane, directory)
        tenant = Tenant(installation, plane.new_namespace("shop"), place)
        tenant.key = load_private(Path(config["signing key"]).read_bytes(), None, name="release")
        tenant.prepare()
        rules = airgap.policy(place, config["key"], names["remap"])
        tenant.write_policy(**{name: rules[name] for name in ("match", "repositoryClaim", "tagClaim", "attestations")})
        plane.kubectl("create", "clusterrole", "crds", "--verb=*", "--resource=customresourcedefinitions")
        account = f"{tenant.namespace}:{tenant.account}"
        plane.kubectl("create", "clusterrolebinding", "crds", "--clusterrole=crds", f"--serviceaccount={account}")
        with running(installation.agent(directory / "agent")):
            tenant.write_sync(images=names["images"], imagePaths=names["imagePaths"])
            status = tenant.wait_ready(config["production"], timeout_s=config["patience"])
            live = plane.get("deployments", namespace=tenant.namespace)["items"]
            used = [item["spec"]["template"]["spec"]["containers"][0]["image"] for item in live]
            engine = plane.get("engines.site.example", "main", namespace=tenant.namespace)["spec"]["image"]
        return {
            "applied": status["applied"]["digest"],
            "signers": status["applied"]["signers"],
            "objects": status["inventory"],
            "images": sorted(used),
            "engine": engine,
            "unreachable": [name for name in [*used, engine] if not _resolves(name)],
        }
    finally:
        kwok.stop()
        plane.stop()


def _resolves(name: str) -> bool:
    """Whether a kubelet would find an image."""
    reference = parse_image(name)
    with open_store(reference.repository, quick()) as store:
        return store.resolve(reference.digest or reference.tag) is not None


def main() -> None:
    """Everything, in order."""
    config = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(config["directory"])
    loopback_up()
    found: dict[str, Any] = {"routes": Path("/proc/net/route").read_text().splitlines()[1:]}
    registry = _REGISTRIES[config["registry"]](Path(config["binary"]), directory / "registry")
    registry.start()
    try:
        place = f"{registry.host}/site/shop"
        found["host"] = registry.host
        found["loaded"] = loaded = load(config, directory, place)
        cosign = Cosign(Path(config["cosign"]), directory / "cosign")
        found["cosign"] = airgap.cosign_verdicts(cosign, place, config["digests"], config["key"])
        if config["agent"]:
            found["agent"] = reconcile(config, directory, place, loaded["names"])
        found["interfaces"] = list(Counters().interfaces)
    finally:
        registry.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
