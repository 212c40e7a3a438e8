"""The files that people copy are files that work."""

from __future__ import annotations

import re
from pathlib import Path

import tests
from ocisync.kit.yamlio import parse_documents
from ocisync.manifests.parse import parse_tree
from ocisync.manifests.validate import check
from ocisync.mirror.mirrorset import parse_mirror_set
from ocisync.model.tree import TreeFile
from ocisync.policy.rules import parse_policy

CHECKOUT = Path(tests.__file__).resolve().parents[1]


def test_the_cron_job_mirrors_what_a_valid_file_selects() -> None:
    data = (CHECKOUT / "examples" / "mirror-cronjob.yaml").read_bytes()
    files = (TreeFile("mirror-cronjob.yaml", data),)
    report = check(parse_tree(files), files)
    assert not report.errors
    config, job = (document.value for document in parse_documents(data, "mirror-cronjob.yaml"))
    found = parse_mirror_set(config["data"]["mirror-set.yaml"].encode(), "mirror-set.yaml")
    assert [one.destination.location for one in found.repositories] == ["mirror.site.local/shop/config"]
    parse_policy(parse_documents(config["data"]["policy.yaml"].encode(), "policy.yaml")[0].value)
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][:2] == ["mirror", "sync"]


def test_the_file_in_the_documentation_is_one() -> None:
    text = (CHECKOUT / "docs" / "air-gap.md").read_text()
    block = next(one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: MirrorSet" in one)
    found = parse_mirror_set(block.encode(), "air-gap.md")
    assert [one.destination.location for one in found.repositories] == [
        "mirror.site.local/shop/config",
        "mirror.site.local/platform/infra",
    ]
