"""The examples for CI systems run: their own scripts, with the variables that each system sets, against a registry.

What a CI system does with its file is played here as its documentation says: GitHub's expressions and composite steps,
GitLab's variables, Jenkins' `sh` steps, Tekton's substitutions. The scripts themselves run unchanged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from ocisync.cli.app import root
from ocisync.kit import yamlio
from ocisync.oci.client import open_store
from ocisync.signing.keys import dump_private, generate, load_public
from tests.support.gitrepo import GIT_ENVIRONMENT, GitRepo
from tests.support.registries import Registry
from tests.support.sandboxes import CHECKOUT
from tests.support.verifying import tagged, verified

EXAMPLES = CHECKOUT / "examples" / "ci"
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\n"
PASSWORD = "only for tests"
GITHUB_SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")


def load(name: str, *replacements: tuple[str, str]) -> Any:
    text = (EXAMPLES / name).read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    (document,) = yamlio.parse_documents(text.encode(), name)
    return document.value


@dataclass
class Job:
    """A checkout as CI makes it, a key, a registry, and an `ocisync` in PATH."""

    directory: Path
    git: GitRepo
    registry: str

    @property
    def commit(self) -> str:
        return self.git.git("rev-parse", "HEAD")

    @property
    def key(self) -> str:
        return (self.directory / "release.key").read_text()

    def run(
        self, script: str, environ: Mapping[str, str], *words: str, shell: tuple[str, ...] = ("sh", "-e")
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in the checkout."""
        file = self.directory / "script.sh"
        file.write_text(script)
        path = f"{self.directory / 'bin'}{os.pathsep}{GIT_ENVIRONMENT['PATH']}"
        return subprocess.run(
            [*shell, str(file), *words],
            cwd=self.git.path,
            env={**GIT_ENVIRONMENT, **environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def verified(self, repository: str, tag: str) -> tuple[str, str]:
        """The digest and the signed revision of a tag."""
        found = verified(repository, tag, load_public((self.directory / "release.pub").read_bytes(), name="release"))
        return found.digest, found.verdict.revision


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an encrypted key and its public half."""
    directory = tmp_path_factory.mktemp("keys")
    signer = generate()
    (directory / "release.key").write_bytes(dump_private(signer, password=PASSWORD.encode()))
    (directory / "release.pub").write_text(signer.public.pem)
    return directory


@pytest.fixture
def job(tmp_path: Path, sandbox_registry: Registry, key_files: Path) -> Job:
    git = GitRepo(tmp_path / "checkout")
    git.commit({"deploy/production/app.yaml": MANIFEST})
    git.git("remote", "add", "origin", "https://ci:t0ken@git.example/acme/shop.git")
    git.git("checkout", "-q", "--detach")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ocisync"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m ocisync "$@"\n')
    program.chmod(0o755)
    for name in ("release.key", "release.pub"):
        shutil.copy(key_files / name, tmp_path / name)
    return Job(tmp_path, git, f"{sandbox_registry.host}/ci-{tmp_path.name[-24:].lower().strip('_-').replace('_', '-')}")


# GitHub Actions ----------------------------------------------------------------------------------------------------

ACTION = "github-action/action.yml"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def evaluated(text: str, context: Mapping[str, Any]) -> str:
    """GitHub's expressions, as far as the examples go: names, strings, ==, && and ||."""

    def value(term: str) -> Any:
        term = term.strip()
        if " || " in term:
            return next((found for part in term.split(" || ") if (found := value(part))), "")
        if " && " in term:
            parts = [value(part) for part in term.split(" && ")]
            return next((part for part in parts if not part), parts[-1])
        if " == " in term:
            left, right = term.split(" == ")
            return value(left) == value(right)
        if term.startswith("'"):
            return term.strip("'")
        here: Any = context
        for name in term.split("."):
            here = here[name]
        return here

    return EXPRESSION.sub(lambda match: str(value(match[1])), text)


def run_action(job: Job, given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Run the composite action's steps as a runner does; returns its outputs."""
    action = load(ACTION)
    assert set(given) <= set(action["inputs"]), "inputs that the action does not have"
    required = {name for name, field in action["inputs"].items() if field.get("required")}
    assert required <= set(given)
    inputs = {name: given.get(name, field.get("default", "")) for name, field in action["inputs"].items()}
    steps: dict[str, Any] = {}
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"], "what a caller passes must not become a part of a script"
        assert step["shell"] == "bash"
        output, summary = job.directory / "github-output", job.directory / "github-summary"
        output.write_text("")
        values = {name: evaluated(text, {"inputs": inputs}) for name, text in step.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        done = job.run(step["run"], {**environ, **files, **values}, shell=GITHUB_SHELL)
        if done.returncode:
            raise AssertionError(f"{done.returncode}: {done.stderr}")
        if "id" in step:
            lines = output.read_text().splitlines()
            steps[step["id"]] = {"outputs": dict(line.split("=", 1) for line in lines)}
    return {name: evaluated(field["value"], {"steps": steps}) for name, field in action["outputs"].items()}


def github_variables(job: Job, ref: str, kind: str) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "CI": "true",
        "GITHUB_SHA": job.commit,
        "GITHUB_REF": f"refs/{'tags' if kind == 'tag' else 'heads'}/{ref}",
        "GITHUB_REF_NAME": ref,
        "GITHUB_REF_TYPE": kind,
        "GITHUB_SERVER_URL": "https://git.example",
        "GITHUB_REPOSITORY": "acme/shop",
    }


def test_the_composite_action_publishes_signs_and_hands_on_the_digest(job: Job) -> None:
    repository = f"{job.registry}/config"
    given = {
        "path": "deploy/production",
        "references": f"oci://{repository}:1.0.0\noci://{repository}:production\n",
        "key": job.key,
        "key-password": PASSWORD,
        "credentials": "ci:password",
        "flags": "--claim\nteam=shop\n",
    }
    outputs = run_action(job, given, github_variables(job, "main", "branch"))
    assert outputs["reference"] == f"{repository}@{outputs['digest']}"
    assert outputs["unchanged"] == "false"
    assert job.verified(repository, "production")[0] == outputs["digest"]
    with open_store(repository) as store:
        assert sorted(store.tags()) == ["1.0.0", "production", f"sha-{job.commit[:12]}"]
    assert "### ocisync push: published" in (job.directory / "github-summary").read_text()
    again = run_action(job, given | {"if-changed": "true"}, github_variables(job, "main", "branch"))
    assert (again["unchanged"], again["digest"]) == ("true", outputs["digest"])


def test_the_composite_action_installs_what_it_is_told_where_there_is_none(job: Job, tmp_path: Path) -> None:
    wheel = tmp_path / "ocisync-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:  # stands for the package of an index, which is not asked here
        file.writestr("stand_in.py", "def main(): print('ocisync 9.9.9')\n")
        file.writestr("ocisync-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: ocisync\nVersion: 9.9.9\n")
        file.writestr("ocisync-9.9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("ocisync-9.9.9.dist-info/entry_points.txt", "[console_scripts]\nocisync=stand_in:main\n")
        file.writestr("ocisync-9.9.9.dist-info/RECORD", "")
    (job.directory / "bin/ocisync").unlink()
    (job.directory / "bin/python3").symlink_to(sys.executable)
    install = load(ACTION)["runs"]["steps"][0]
    environ = {"PACKAGE": str(wheel), "RUNNER_TEMP": str(tmp_path), "GITHUB_PATH": str(tmp_path / "path")}
    done = job.run(install["run"], environ, shell=GITHUB_SHELL)
    assert (done.returncode, done.stdout) == (0, "ocisync 9.9.9\n"), done.stderr
    assert (tmp_path / "path").read_text() == f"{tmp_path}/ocisync/bin\n"


def test_the_composite_action_checks_a_pull_request_without_writing(job: Job) -> None:
    repository = f"{job.registry}/config"
    given = {"path": "deploy/production", "references": f"oci://{repository}:staging", "dry-run": "true"}
    assert run_action(job, given, github_variables(job, "7/merge", "branch"))["digest"]
    assert not tagged(repository, "staging")
    job.git.commit({"deploy/production/bad.yaml": "kind: [\n"})
    with pytest.raises(AssertionError, match=r"bad\.yaml"):
        run_action(job, given, github_variables(job, "7/merge", "branch"))


def test_what_a_caller_passes_to_the_composite_action_is_never_run(job: Job) -> None:
    mark = job.directory / "ran"
    given = {
        "path": f"$(touch {mark})",
        "references": f'oci://{job.registry}/x:`touch {mark}`\n"; touch {mark}; "',
        "flags": f"; touch {mark}\n--dry-run",
    }
    with pytest.raises(AssertionError, match="2: "):
        run_action(job, given, github_variables(job, "main", "branch"))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("event", "ref", "kind", "tag"),
    [
        ("pull_request", "7/merge", "branch", ""),
        ("push", "main", "branch", "staging"),
        ("push", "v1.4.0", "tag", "v1.4.0"),
    ],
)
def test_the_github_workflow_does_what_it_says(job: Job, event: str, ref: str, kind: str, tag: str) -> None:
    workflow = load("github/publish.yml", ("ghcr.io/", f"{job.registry}/"))
    github = {
        "event_name": event,
        "repository": "acme/shop",
        "ref_type": kind,
        "ref_name": ref,
        "actor": "ci",
        "token": "t0ken",
        "ref": ref,
    }
    context: dict[str, Any] = {"github": github}
    context["env"] = {name: evaluated(value, context) for name, value in workflow["env"].items()}
    chosen = [each for each in workflow["jobs"].values() if evaluated("${{ " + each["if"] + " }}", context) == "True"]
    assert len(chosen) == 1
    (step,) = (each for each in chosen[0]["steps"] if each["uses"] == "./.github/actions/ocisync-push")
    given = {name: evaluated(value, context) for name, value in step["with"].items()}
    if given.pop("keyless", "") == "true":
        assert chosen[0]["permissions"]["id-token"] == "write"
        given |= {"key": job.key, "key-password": PASSWORD}  # stands for the identity service, which is not here
    outputs = run_action(job, given, github_variables(job, ref, kind))
    repository = context["env"]["REPOSITORY"]
    if event == "pull_request":
        assert "packages" not in chosen[0]["permissions"] or chosen[0]["permissions"]["packages"] == "read"
        assert not tagged(repository, "staging")
    else:
        assert job.verified(repository, tag) == (outputs["digest"], f"{ref}@sha1:{job.commit}")


# GitLab ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variables", "tag"),
    [
        ("check", {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_REF_NAME": "feature"}, ""),
        ("publish:staging", {"CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"}, "staging"),
        ("publish:version", {"CI_COMMIT_TAG": "v1.4.0", "CI_COMMIT_REF_NAME": "v1.4.0"}, "v1.4.0"),
    ],
)
def test_the_gitlab_jobs_do_what_they_say(job: Job, name: str, variables: dict[str, str], tag: str) -> None:
    pipeline = load("gitlab/gitlab-ci.yml")
    assert pipeline[name]["stage"] in pipeline["stages"]
    assert pipeline[name]["rules"], "no job runs in every pipeline"
    environ = {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_COMMIT_SHA": job.commit,
        "CI_PROJECT_URL": "https://git.example/acme/shop",
        "CI_REPOSITORY_URL": "https://gitlab-ci-token:t0ken@git.example/acme/shop.git",
        "CI_DEFAULT_BRANCH": "main",
        "CI_REGISTRY_IMAGE": f"{job.registry}/acme/shop",
        "CI_REGISTRY_USER": "gitlab-ci-token",
        "CI_REGISTRY_PASSWORD": "t0ken",
        "RELEASE_KEY": job.key,
        "OCISYNC_KEY_PASSWORD": PASSWORD,
        **variables,
    }
    for key, value in pipeline["variables"].items():
        environ[key] = re.sub(r"\$(\w+)", lambda match: environ[match[1]], value)
    done = job.run("\n".join(pipeline[name]["script"]), environ)
    assert done.returncode == 0, done.stderr
    repository = f"{job.registry}/acme/shop/config"
    if tag:
        (artifact,) = pipeline[name]["artifacts"]["paths"]
        digest = json.loads((job.git.path / artifact).read_text())["digest"]
        assert job.verified(repository, tag) == (digest, f"{environ['CI_COMMIT_REF_NAME']}@sha1:{job.commit}")
    else:
        assert not tagged(repository, "staging")


# Jenkins -----------------------------------------------------------------------------------------------------------


def jenkins_steps() -> Iterator[str]:
    """The shell scripts of the Jenkinsfile, as Groovy's single-quoted strings read."""
    text = (EXAMPLES / "jenkins/Jenkinsfile").read_text()
    code = re.sub(r"'''.*?'''|'[^'\n]*'|//[^\n]*", "", text, flags=re.DOTALL)
    assert code.count("{") == code.count("}")
    assert code.count("(") == code.count(")")
    assert '"' not in code, "double quotes would let Groovy put secrets into a script's text"
    for match in re.finditer(r"\bsh (?:'''(.*?)'''|'([^'\n]*)')", text, re.DOTALL):
        yield (match[1] or match[2]).replace("\\\n", "")


@pytest.mark.parametrize("tag", ["", "v1.4.0"])
def test_the_jenkins_steps_do_what_they_say(job: Job, tag: str) -> None:
    check, publish = jenkins_steps()
    text = (EXAMPLES / "jenkins/Jenkinsfile").read_text()
    assert "REPOSITORY = 'registry.example/acme/shop/config'" in text
    repository = f"{job.registry}/acme/shop/config"
    environ = {
        "JENKINS_URL": "https://jenkins.example/",
        "REPOSITORY": repository,
        "GIT_COMMIT": job.commit,
        "GIT_BRANCH": tag or "origin/main",
        "GIT_URL": "https://jenkins:t0ken@git.example/acme/shop.git",
        "OCISYNC_CREDS": "jenkins:password",
        **({"TAG_NAME": tag} if tag else {}),
    }
    done = job.run(check, environ)
    assert done.returncode == 0, done.stderr
    secrets = {"RELEASE_KEY": str(job.directory / "release.key"), "OCISYNC_KEY_PASSWORD": PASSWORD}
    done = job.run(publish, {**environ, **secrets})
    assert done.returncode == 0, done.stderr
    digest = json.loads((job.git.path / "publish.json").read_text())["digest"]
    assert job.verified(repository, tag or "staging") == (digest, f"{tag or 'main'}@sha1:{job.commit}")


# Tekton ------------------------------------------------------------------------------------------------------------


def substituted(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\(([a-z.-]+)\)", lambda match: values[match[1]], text)


@pytest.mark.parametrize("is_signed", [True, False], ids=["with a key", "without"])
def test_the_tekton_task_publishes_and_writes_its_results(job: Job, is_signed: bool) -> None:
    task = load("tekton/task.yaml")["spec"]
    pipeline = load("tekton/pipeline.yaml")["spec"]
    repository = f"{job.registry}/config"
    (call,) = (each for each in pipeline["tasks"] if each["taskRef"].get("name") == "ocisync-push")
    declared = {each["name"]: each for each in task["params"]}
    passed = {each["name"]: each["value"] for each in call["params"]}
    assert set(passed) <= set(declared)
    assert {name for name, each in declared.items() if "default" not in each} <= set(passed)
    workspaces = {each["name"] for each in task["workspaces"]}
    assert {each["name"] for each in call["workspaces"]} <= workspaces
    assert {each["workspace"] for each in call["workspaces"]} <= {each["name"] for each in pipeline["workspaces"]}
    given = {"params.url": "x", "params.repository": repository} | {
        f"params.{each['name']}": each["default"] for each in pipeline["params"] if "default" in each
    }
    values = {
        **{f"params.{name}": substituted(value, given) for name, value in passed.items() if isinstance(value, str)},
        "workspaces.source.path": str(job.git.path),
        "workspaces.key.path": str(job.directory / "key") if is_signed else "",
        "workspaces.login.path": "",
        **{f"results.{each['name']}.path": str(job.directory / each["name"]) for each in task["results"]},
    }
    (job.directory / "key").mkdir()
    (job.directory / "key/release.key").write_text(job.key)
    (job.directory / "key/password").write_text(PASSWORD)
    (step,) = task["steps"]
    assert "$(" not in re.sub(r"\$\((?:cat|ocisync) ", "", step["script"]), "parameters are no part of the script"
    assert step["script"].startswith("#!/bin/sh\n")
    assert step["args"] == ["$(params.flags[*])"]
    environ = {each["name"]: substituted(each["value"], values) for each in step["env"]}
    done = job.run(step["script"], environ, *passed["flags"], shell=("sh",))
    assert done.returncode == 0, done.stderr
    digest = (job.directory / "digest").read_text()
    assert (job.directory / "reference").read_text() == f"{repository}@{digest}"
    assert tagged(repository, "staging") == digest
    if is_signed:
        assert job.verified(repository, "staging") == (digest, f"main@sha1:{job.commit}")


# All of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.y*ml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_is_strict_yaml(path: Path) -> None:
    assert yamlio.parse_documents(path.read_bytes(), path.name)


def test_every_command_of_the_examples_has_its_flags() -> None:
    wrong, count = [], 0
    for path in (file for file in EXAMPLES.rglob("*") if file.is_file()):
        text = path.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"\bocisync ([a-z]+)\b([^\n|>;`]*)", text):
            if name not in root.list_commands(click.Context(root)):
                continue
            command = root.get_command(click.Context(root), name)
            assert command is not None
            known = {flag for item in command.params for flag in (*item.opts, *item.secondary_opts)}
            wrong += [flag for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest) if flag not in known]
            count += 1
    assert wrong == []
    assert count >= 8
