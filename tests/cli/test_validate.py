"""`ocisync validate`: the checks of push, alone; findings for people, for CI systems, for pre-commit."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ocisync.manifests.rules import RULES, WARNINGS, Rule
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
BAD = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicsa: 3\n"
CERTIFICATE = "apiVersion: cert.example/v1\nkind: Certificate\nmetadata: {name: a}\nspec: {dnsNmaes: []}\n"
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert.example}
spec:
  group: cert.example
  scope: Namespaced
  names: {plural: certificates, kind: Certificate}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {dnsNames: {type: array, items: {type: string}}}}}
"""


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def stdin_holds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_good_manifests_are_exit_code_0_and_counted(cli: Cli) -> None:
    write({"a.yaml": GOOD % "a", "b/c.yaml": GOOD % "c", "README.md": "# x\n"})
    ran = cli("validate")
    assert (ran.exit_code, ran.out, ran.err) == (0, "", "2 objects in 3 files: nothing found\n")


def test_all_findings_of_all_files_are_told_at_once_with_place_and_rule(cli: Cli) -> None:
    write({"deploy/a.yaml": BAD, "deploy/b.yaml": "kind: [\n", "deploy/c.yaml": GOOD % "A_A"})
    ran = cli("validate", "deploy")
    assert ran.exit_code == 1
    assert ran.out.splitlines() == [
        "deploy/a.yaml:4:1: error: spec.selector is required [required-field]",
        "deploy/a.yaml:4:1: error: spec.template is required [required-field]",
        "deploy/a.yaml:5:3: error: unknown field spec.replicsa; did you mean replicas? [unknown-field]",
        ran.out.splitlines()[3],
        "deploy/c.yaml:3:1: error: bad name 'A_A': lower-case letters, digits, '-' and '.', at most 253 [object-name]",
    ]
    assert ran.out.splitlines()[3].startswith("deploy/b.yaml:2:1: error: ")
    assert ran.err == "2 objects in 3 files: 5 errors, 0 warnings\n"


def test_the_shop_of_the_examples_passes_in_every_environment(cli: Cli) -> None:
    environments = sorted((ROOT / "examples/shop/environments").iterdir())
    ran = cli("validate", *map(str, environments), "--strict-kinds", "-o", "json")
    answer = json.loads(ran.out)
    assert (ran.exit_code, answer["errors"], answer["warnings"]) == (0, [], [])
    assert answer["objects"] > 200


def test_ocisyncs_own_objects_pass_without_their_definitions(cli: Cli) -> None:
    ran = cli(
        "validate", str(ROOT / "examples/shop/sync.yaml"), str(ROOT / "examples/shop/policy.yaml"), "--strict-kinds"
    )
    assert (ran.exit_code, ran.out) == (0, "")


def test_stdin_is_checked_as_one_artifact(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin_holds(monkeypatch, GOOD % "a" + "---\n" + GOOD % "a")
    ran = cli("validate", "-")
    assert ran.exit_code == 1
    assert ran.out == "<stdin>:5:1: error: ConfigMap a is already defined at <stdin>:1 [duplicate-object]\n"


def test_each_directory_and_each_file_is_an_artifact_of_its_own(cli: Cli) -> None:
    write({"staging/a.yaml": GOOD % "a", "production/a.yaml": GOOD % "a"})
    assert cli("validate", "staging", "production").exit_code == 0
    assert cli("validate", "staging/a.yaml", "production/a.yaml").exit_code == 0
    assert cli("validate", ".").exit_code == 1


def test_definitions_serve_all_that_is_named_together(cli: Cli) -> None:
    write({"crds/crd.yaml": DEFINITION, "apps/cert.yaml": CERTIFICATE})
    alone = cli("validate", "apps")
    assert alone.exit_code == 0
    assert "[missing-schema]" in alone.out
    told = "apps/cert.yaml:4:8: error: unknown field spec.dnsNmaes; did you mean dnsNames? [unknown-field]\n"
    for arguments in (["apps", "crds"], ["apps", "--schema", "crds"], ["apps/cert.yaml", "--schema", "crds/crd.yaml"]):
        ran = cli("validate", *arguments)
        assert (ran.exit_code, ran.out) == (1, told), arguments


def test_strict_kinds_refuse_what_has_no_definition(cli: Cli) -> None:
    write({"cert.yaml": CERTIFICATE})
    ran = cli("validate", "--strict-kinds")
    assert ran.exit_code == 1
    assert "[unknown-kind]" in ran.out


def test_a_place_without_any_manifest_is_an_error_and_a_file_without_is_none(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"deploy/README.md": "# x\n"})
    ran = cli("validate", "deploy")
    assert (ran.exit_code, ran.out) == (1, "deploy: error: no manifest among 1 files [file]\n")
    stdin_holds(monkeypatch, "")
    assert cli("validate", "-").exit_code == 1
    assert cli("validate", "deploy/README.md").exit_code == 0


def test_what_cannot_be_packed_is_a_finding_in_every_form(cli: Cli) -> None:
    write({"deploy/a.yaml": GOOD % "a"})
    Path("deploy/link.yaml").symlink_to("a.yaml")
    ran = cli("validate", "deploy", "-o", "sarif")
    assert ran.exit_code == 1
    check_sarif(json.loads(ran.out))
    assert "deploy/link.yaml: error: is a symlink" in cli("validate", "deploy").out


@pytest.mark.parametrize(
    ("files", "arguments", "code", "told"),
    [
        ({"x.yaml": GOOD % "a"}, ["--schema", "x.yaml"], 1, "holds no CustomResourceDefinition"),
        ({"x.yaml": "a: [\n"}, ["--schema", "x.yaml"], 1, "--schema: x.yaml:2:1"),
        ({"d/x.yaml": GOOD % "a"}, ["--schema", "d"], 5, "no CustomResourceDefinition in d"),
        ({}, ["--schema", "nothing.yaml"], 5, "nothing.yaml"),
        ({}, ["nothing"], 5, "no file or directory nothing"),
        ({}, ["--kubernetes-version", "1.12"], 2, "no schemas of Kubernetes '1.12'"),
        ({}, ["--no-schema", "--schema", "x"], 2, "contradict"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    cli: Cli, files: dict[str, str], arguments: list[str], code: int, told: str
) -> None:
    write(files)
    ran = cli("validate", *arguments)
    assert ran.exit_code == code
    assert len(ran.errors) == 1
    assert told in ran.errors[0]


def test_the_release_decides_which_versions_are_gone(cli: Cli) -> None:
    write({"a.yaml": "apiVersion: flowcontrol.apiserver.k8s.io/v1beta3\nkind: FlowSchema\nmetadata: {name: a}\n"})
    assert cli("validate", "--kubernetes-version", "1.31").exit_code == 0
    ran = cli("validate")
    assert ran.exit_code == 1
    assert "1:1: error: FlowSchema of flowcontrol.apiserver.k8s.io/v1beta3 is gone since Kubernetes 1.32" in ran.out


def test_without_schemas_the_other_checks_stay(cli: Cli) -> None:
    write({"a.yaml": BAD, "b.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: plain}\n"})
    ran = cli("validate", "--no-schema", "-o", "json")
    assert [row["rule"] for row in json.loads(ran.out)["errors"]] == ["plain-secret"]
    assert cli("validate", "--no-schema", "--allow-plain-secret", "s").exit_code == 0


def test_json_holds_every_finding_with_its_rule(cli: Cli) -> None:
    write({"a.yaml": BAD})
    answer = json.loads(cli("validate", "-o", "json").out)
    assert (answer["files"], answer["objects"], answer["warnings"]) == (1, 1, [])
    assert answer["errors"][2] == {
        "rule": "unknown-field",
        "file": "a.yaml",
        "line": 5,
        "column": 3,
        "message": "unknown field spec.replicsa; did you mean replicas?",
    }


def test_github_annotations_are_escaped_as_its_workflow_commands_want(cli: Cli) -> None:
    write(
        {
            "a,b:c%.yaml": BAD,
            "img.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: x}]}\n",
        }
    )
    lines = cli("validate", "-o", "github").out.splitlines()
    assert lines[2] == (
        "::error file=a%2Cb%3Ac%25.yaml,line=5,col=3,title=ocisync unknown-field::"
        "unknown field spec.replicsa; did you mean replicas?"
    )
    assert lines[3].startswith("::warning file=img.yaml,line=4,col=")


def test_a_message_cannot_end_its_annotation(cli: Cli) -> None:
    write({"a.yaml": GOOD % "a" + '"x\\n::error::fake": 1\n'})
    lines = cli("validate", "-o", "github").out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("::error file=a.yaml")


def test_sarif_is_such_that_code_scanning_takes_it(cli: Cli) -> None:
    write({"deploy/a b#.yaml": BAD, "deploy/b.yaml": CERTIFICATE, "deploy/.env": "A=b\n"})
    ran = cli("validate", "deploy", "-o", "sarif")
    assert ran.exit_code == 1
    check_sarif(json.loads(ran.out))
    results = json.loads(ran.out)["runs"][0]["results"]
    places = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results}
    assert places == {"deploy/a%20b%23.yaml", "deploy/b.yaml", "deploy/.env"}
    assert {(result["ruleId"], result["level"]) for result in results} == {
        ("unknown-field", "error"), ("required-field", "error"), ("missing-schema", "warning"), ("key-file", "error"),
    }  # fmt: skip


def test_sarif_of_nothing_is_a_run_without_results(cli: Cli) -> None:
    write({"a.yaml": GOOD % "a"})
    answer = json.loads(cli("validate", "-o", "sarif").out)
    check_sarif(answer)
    assert answer["runs"][0]["results"] == []


def check_sarif(log: dict[str, object]) -> None:
    """The rules of SARIF 2.1.0 that concern what is written here, by their sections."""
    assert log["version"] == "2.1.0"  # 3.13.2
    assert str(log["$schema"]).endswith("sarif-schema-2.1.0.json")
    assert set(log) == {"$schema", "version", "runs"}
    runs = log["runs"]
    assert isinstance(runs, list)
    for run in runs:
        assert set(run) <= {"tool", "columnKind", "results"}  # 3.14
        assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")  # 3.14.17
        rules = run["tool"]["driver"]["rules"]
        assert run["tool"]["driver"]["name"]  # 3.19.8: required
        assert len({rule["id"] for rule in rules}) == len(rules)  # 3.19.23: unique
        for rule in rules:
            assert rule["shortDescription"]["text"]  # 3.12.3
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")  # 3.50.3
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.6
            assert result["message"]["text"]  # 3.27.11
            assert result["level"] in ("none", "note", "warning", "error")  # 3.27.10
            for location in result["locations"]:
                place = location["physicalLocation"]
                uri = place["artifactLocation"]["uri"]
                assert uri
                assert not set(uri) & set(' \\#<>"{}|^`')  # 3.4.3: a valid URI
                region = place.get("region", {"startLine": 1})
                assert region["startLine"] >= 1  # 3.30.5
                assert region.get("startColumn", 1) >= 1  # 3.30.6


def test_the_pre_commit_hook_runs_on_files_given_as_arguments(tmp_path: Path) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["ocisync-validate"]
    for name, text in {
        "good.yaml": GOOD % "a",
        "bad.yaml": BAD,
        "values.json": "{}",
        "Chart.yaml": "name: x\n",
    }.items():
        (tmp_path / name).write_text(text)
    entry = [str(Path(sys.executable).parent / "ocisync"), *shlex.split(hooks[0]["entry"])[1:]]
    good = subprocess.run(
        [*entry, "good.yaml", "Chart.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    both = subprocess.run([*entry, "good.yaml", "bad.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert both.returncode == 1
    assert both.stdout.startswith("bad.yaml:4:1: error: ")


def test_push_refuses_what_validate_refuses(cli: Cli) -> None:
    write({"deploy/a.yaml": BAD})
    ran = cli("push", "deploy", "oci://localhost:1/x:1.0.0", "--no-git", "--revision", "r", "--plain-http")
    assert ran.exit_code == 1
    assert "deploy" not in ran.errors[0]
    assert "a.yaml:5:3: unknown field spec.replicsa; did you mean replicas?" in ran.err


def test_every_rule_is_documented_with_its_level() -> None:
    text = (ROOT / "docs/validation.md").read_text()
    for rule in Rule:
        level = "warning" if rule in WARNINGS else "error"
        assert f"| `{rule}` | {level} | {RULES[rule]}" in text, rule
    assert set(RULES) == set(Rule)
