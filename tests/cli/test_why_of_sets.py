"""why, asked about objects that `ocisync apply` has made: no ArtifactSync, no agent."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, Ran
from tests.support.cluster import Cluster
from tests.support.registries import Registry
from tests.support.signedrepository import SignedRepository
from tests.support.trust import signer

NAME = "registry.example/acme/shop"
MERGE = "application/merge-patch+json"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: red\n  size: '3'\n"


@dataclass
class Place:
    """A namespace, and the commands that work in it."""

    cluster: Cluster
    cli: Cli
    namespace: str

    def apply(self, target: str, *flags: str) -> Ran:
        ran = self.cli("apply", target, "--name", "shop", *self.where, *flags)
        assert ran.exit_code == 0, ran.err
        return ran

    def why(self, *arguments: str) -> Ran:
        return self.cli("why", "cm/settings", *arguments, *self.where)

    def answer(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        ran = self.why(*arguments, "-o", "json")
        assert ran.exit_code == exit_code, ran.err
        found: dict[str, Any] = json.loads(ran.out)
        return found

    @property
    def where(self) -> tuple[str, ...]:
        return ("-n", self.namespace, "--kubeconfig", str(self.cluster.kubeconfig))

    def path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps/{name}".rstrip("/")

    def edit(self, name: str, change: dict[str, Any], manager: str = "kubectl-edit") -> None:
        self.cluster.api("PATCH", f"{self.path(name)}?fieldManager={manager}", change, content_type=MERGE)

    def plain(self, text: str) -> str:
        """Without what differs from run to run."""
        text = text.replace(self.namespace, "shop")
        text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", re.sub(r"applyset-\S+-v1", "applyset-…-v1", text))
        text = re.sub(r"run last by \S+", "run last by WHOM", text)
        return re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "TIME", text)


@pytest.fixture
def place(sandbox_cluster: Cluster, cli: Cli) -> Place:
    namespace = f"sets-{secrets.token_hex(4)}"
    sandbox_cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    return Place(sandbox_cluster, cli, namespace)


@pytest.fixture
def repository(sandbox_registry: Registry, tmp_path: Path) -> SignedRepository:
    """A signed artifact with the tag `production`; the key is `ci.pub`."""
    made = SignedRepository(f"{sandbox_registry.host}/test/{secrets.token_hex(4)}")
    key = signer("ci")
    (tmp_path / "ci.pub").write_text(key.public.pem)
    made.sign(made.push({"app/settings.yaml": MAP, "other/more.yaml": MAP}, "production").descriptor, key)
    return made


@pytest.fixture
def from_registry(place: Place, repository: SignedRepository) -> Place:
    place.apply(f"oci://{repository.repository}:production", "--key", "ci.pub", "--path", "app")
    return place


def test_a_value_is_traced_to_file_line_artifact_signer_and_set(
    from_registry: Place, repository: SignedRepository, golden: Callable[[str, str], None]
) -> None:
    place = from_registry
    answer = place.answer("data.colour")
    assert (answer["origin"], answer["value"]) == ("Git", "red")
    assert answer["written"]["file"] == "app/settings.yaml" and answer["written"]["line"] == 6
    assert answer["set"] == f"{place.namespace}/shop" and "sync" not in answer
    assert answer["artifact"]["repository"] == repository.repository
    assert answer["artifact"]["signers"] and answer["artifact"]["judgedHere"] is False
    assert answer["problems"] == [] and "@" in answer["runBy"] and answer["directory"] == ""
    place.edit("settings", {"data": {"colour": "blue", "theirs": "x"}})
    told = [
        place.why(*field).out
        for field in (
            ("data.size",), ("data.colour",), ("data.theirs",), ("metadata.namespace",),
            ("metadata.labels[applyset.kubernetes.io/part-of]",), (),
        )
    ]  # fmt: skip
    text = place.plain("\n".join(told)).replace(repository.repository, NAME)
    golden("why-set.txt", re.sub(r"\d+ fields", "N fields", text))


def test_with_a_key_the_artifact_of_a_set_is_judged_here(from_registry: Place) -> None:
    assert from_registry.answer("data.colour", "--key", "ci.pub")["artifact"]["judgedHere"] is True
    assert from_registry.cli("keys", "generate", "other").exit_code == 0
    assert from_registry.why("data.colour", "--key", "other.pub").exit_code == 4


def test_a_set_from_a_layout_wants_to_be_told_where_it_is(place: Place, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "settings.yaml").write_text(MAP)
    assert place.cli("keys", "generate", "k").exit_code == 0
    pushed = place.cli("push", "deploy", "oci-layout:out:1.0.0", "--as", NAME, "--sign-key", "k.key", "--no-git",
                       "--revision", "1.0.0")  # fmt: skip
    assert pushed.exit_code == 0, pushed.err
    place.apply("oci-layout:out:1.0.0", "--as", NAME, "--key", "k.pub")
    answer = place.answer("data.colour")
    assert answer["origin"] == "Unknown" and answer["artifact"]["revision"] == "1.0.0"
    assert answer["problems"] == ["file and line: oci-layout:out:1.0.0 was applied: name it: --artifact oci-layout:DIR"]
    known = place.answer("data.colour", "--artifact", "oci-layout:out", "--key", "k.pub")
    assert (known["origin"], known["written"]["line"], known["problems"]) == ("Git", 6, [])
    assert known["artifact"]["repository"] == NAME and known["artifact"]["judgedHere"] is True
    assert place.answer("data.colour", "--artifact", "oci-layout:nowhere", exit_code=5)["problems"]


def test_a_set_from_a_directory_says_so(place: Place, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "settings.yaml").write_text(MAP)
    place.apply("deploy", "--no-git", "--revision", "v7")
    answer = place.answer("data.colour")
    assert answer["directory"] == "deploy" and answer["artifact"]["revision"] == "v7"
    assert answer["origin"] == "Unknown" and answer["value"] == "red"
    text = place.plain(place.why("data.colour").out)
    assert "  directory   deploy\n" in text and "signed by" not in text and "artifact" not in text
    assert "not known: file and line: a directory was applied, and only whoever did it has it" in text
    assert "applied by  set shop/shop of ocisync apply, changed last at TIME, run last by WHOM" in text


def test_of_a_set_without_a_record_what_its_inventory_knows_is_told(
    from_registry: Place, repository: SignedRepository
) -> None:
    place = from_registry
    place.edit("ocisync-apply-shop", {"data": None})
    answer = place.answer("data.colour")
    assert answer["set"] == f"{place.namespace}/shop" and answer["artifact"]["digest"].startswith("sha256:")
    assert answer["problems"][0].startswith("file and line: nothing says what was applied as a whole; ocisync apply")
    known = place.answer("data.colour", "--artifact", f"oci://{repository.repository}")
    assert (known["origin"], known["artifact"]["revision"] != "") == ("Git", True)


@pytest.mark.parametrize("text", ["{", "[]", '{"source":1,"signers":"x","digest":["y"]}', '{"a":1,"a":2}', "{}"])
def test_a_record_that_somebody_changed_is_no_defect(from_registry: Place, text: str) -> None:
    from_registry.edit("ocisync-apply-shop", {"data": {"applied": text}})
    answer = from_registry.answer("data.colour")
    assert answer["set"] == f"{from_registry.namespace}/shop" and answer["problems"]


def test_a_parent_that_only_says_so_owns_nothing(from_registry: Place) -> None:
    """The label of a parent proves nothing: its own name and namespace must make the id."""
    place = from_registry
    label = place.cluster.api("GET", place.path("settings"))["metadata"]["labels"]["applyset.kubernetes.io/part-of"]
    place.cluster.api("DELETE", place.path("ocisync-apply-shop"))
    for name in ("ocisync-apply-fake", "fake"):
        labels = {"applyset.kubernetes.io/id": label}
        place.cluster.api("POST", place.path(), {"metadata": {"name": name, "labels": labels}})
    answer = place.answer()
    assert "set" not in answer
    assert answer["answer"] == ["its label names a sync or set that does not exist (any more), or that you may not see"]


def test_an_apply_that_changes_nothing_writes_no_record_anew(
    from_registry: Place, repository: SignedRepository
) -> None:
    place = from_registry
    before = place.cluster.api("GET", place.path("ocisync-apply-shop"))["metadata"]["resourceVersion"]
    place.apply(f"oci://{repository.repository}:production", "--key", "ci.pub", "--path", "app")
    after = place.cluster.api("GET", place.path("ocisync-apply-shop"))["metadata"]["resourceVersion"]
    assert after == before
