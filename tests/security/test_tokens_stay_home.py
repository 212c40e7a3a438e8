"""A token that a checkout or a CI job knows leaves the machine in no byte and shows in no line of output.

The push is the real command line; a proxy keeps every request it sends. Looked at are request lines, headers, bodies,
and what is inside compressed layers; the token in clear, percent-encoded, and in base64 at each alignment.
"""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from ocisync.signing.keys import dump_private, generate
from tests.support.gitrepo import GitRepo
from tests.support.process import free_port
from tests.support.pushes import Ended, PushServer
from tests.support.registries import Registry
from tests.support.wiretap import Wiretap

TOKEN = "ghs_S3cretOfThisJob42"
ODD_TOKEN = "p@ss/w:rd!42secret"
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
COMMITTED = "2026-03-01T10:00:00Z"


def spellings(token: str) -> list[bytes]:
    """How a token may be written."""
    raw = token.encode()
    middle = [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, quote(token, safe="").encode(), *middle]


def inflated(data: bytes) -> bytes:
    """The bytes and, if they are gzip, what is inside."""
    return data + (zlib.decompress(data, 31) if data[:2] == b"\x1f\x8b" else b"")


@dataclass
class Bench:
    """A checkout, and a registry behind a wiretap."""

    tap: Wiretap
    server: PushServer
    git: GitRepo
    directory: Path
    key_file: Path

    def push(self, environ: dict[str, str] | None = None, *flags: str) -> Ended:
        """Push with as much said as can be."""
        number = len(list(self.directory.glob("push-*")))
        arguments = [
            "push",
            str(self.git.path),
            f"oci://{self.tap.host}/secrets/{self.directory.name[-20:]}:dev",
            "-vv",
        ]
        key = ["--sign-key", str(self.key_file), "--legacy-signature", "--provenance"]
        environ = {"GIT_ALLOW_PROTOCOL": "http", **(environ or {})}
        return self.server.run([*arguments, *key, *flags], self.directory / f"push-{number}", environ)

    def assert_unseen(self, ended: Ended, token: str = TOKEN) -> None:
        """The token is in nothing that was sent or printed."""
        sent = b"\n".join(exchange.raw + inflated(exchange.body) for exchange in self.tap.exchanges)
        for spelling in spellings(token):
            assert spelling not in sent
            assert spelling not in (ended.out + ended.err).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[PushServer]:
    with PushServer() as started:
        yield started


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "k.key"
    path.write_bytes(dump_private(generate(), password=None))
    return path


@pytest.fixture
def bench(sandbox_registry: Registry, server: PushServer, key_file: Path, tmp_path: Path) -> Iterator[Bench]:
    git = GitRepo(tmp_path / "git")
    git.commit({"a.yaml": MANIFEST, "notes.txt": "packed too\n"}, at=COMMITTED)
    # Not the name of the test: it may hold what is looked for.
    directory = tmp_path / f"run-{secrets.token_hex(4)}"
    directory.mkdir()
    with Wiretap(sandbox_registry.host) as tap:
        yield Bench(tap, server, git, directory, key_file)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (f"https://x-access-token:{TOKEN}@git.example/acme/shop.git", "https://git.example/acme/shop"),
        (f"https://{TOKEN}@git.example/acme/shop.git", "https://git.example/acme/shop"),
        (f"https://git.example/acme/shop.git?private_token={TOKEN}", "https://git.example/acme/shop"),
        (f"https://git.example/acme/shop.git#{TOKEN}", "https://git.example/acme/shop"),
        (f"ssh://git:{TOKEN}@git.example:2222/acme/shop.git", "https://git.example/acme/shop"),
        (f"{TOKEN}@git.example:acme/shop.git", "https://git.example/acme/shop"),
        (f"user:{TOKEN}@git.example/acme/shop.git", ""),
        (f"ext::curl -u {TOKEN} git.example", ""),
        (f"/srv/{TOKEN}/shop.git", ""),
    ],
    ids=lambda value: value.replace(TOKEN, "TOKEN") if isinstance(value, str) else "",
)
def test_t32_a_token_in_the_clone_s_remote_is_in_no_uploaded_byte(bench: Bench, url: str, source: str) -> None:
    bench.git.git("remote", "add", "origin", url)
    ended = bench.push()
    assert ended.exit_code == 0, ended.err
    bench.assert_unseen(ended)
    assert len(bench.tap.exchanges) > 10
    if source:
        assert source.encode() in bench.tap.sent(), "the repository is named"


def test_t32_a_percent_encoded_token_is_in_no_uploaded_byte(bench: Bench) -> None:
    bench.git.git("remote", "add", "origin", f"https://ci:{quote(ODD_TOKEN, safe='')}@git.example/acme/shop.git")
    ended = bench.push()
    assert ended.exit_code == 0, ended.err
    bench.assert_unseen(ended, ODD_TOKEN)


def test_t32_what_a_checkout_action_writes_into_the_configuration_is_in_no_uploaded_byte(bench: Bench) -> None:
    header = f"AUTHORIZATION: basic {base64.b64encode(f'x-access-token:{TOKEN}'.encode()).decode()}"
    bench.git.git("config", "http.https://git.example/.extraheader", header)
    bench.git.git("config", f"url.https://x:{TOKEN}@git.example/.insteadOf", "https://git.example/")
    bench.git.git("remote", "add", "origin", "https://git.example/acme/shop.git")
    bench.git.git("config", "remote.origin.pushurl", f"https://x:{TOKEN}@git.example/acme/shop.git")
    ended = bench.push()
    assert ended.exit_code == 0, ended.err
    bench.assert_unseen(ended)
    assert b"https://git.example/acme/shop" in bench.tap.sent()


CI_SYSTEMS = {
    "GitHub Actions": {
        "GITHUB_SHA": "{commit}",
        "GITHUB_REF_NAME": "main",
        "GITHUB_SERVER_URL": "https://x-access-token:{token}@git.example",
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_RUN_ID": "7",
        "GITHUB_WORKFLOW_REF": "acme/shop/.github/workflows/release.yml@refs/heads/main",
        "GITHUB_TOKEN": "{token}",
        "ACTIONS_RUNTIME_TOKEN": "{token}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "{token}",
    },
    "GitLab CI": {
        "CI_COMMIT_SHA": "{commit}",
        "CI_COMMIT_REF_NAME": "main",
        "CI_PROJECT_URL": "https://gitlab-ci-token:{token}@git.example/acme/shop",
        "CI_REPOSITORY_URL": "https://gitlab-ci-token:{token}@git.example/acme/shop.git",
        "GITLAB_CI": "true",
        "CI_JOB_URL": "https://x:{token}@git.example/acme/shop/-/jobs/7?private_token={token}",
        "CI_JOB_TOKEN": "{token}",
    },
    "Woodpecker": {
        "CI_COMMIT_SHA": "{commit}",
        "CI_COMMIT_BRANCH": "main",
        "CI_REPO_URL": "https://{token}@git.example/acme/shop",
    },
    "Buildkite": {
        "BUILDKITE_COMMIT": "{commit}",
        "BUILDKITE_BRANCH": "main",
        "BUILDKITE_REPO": "https://x:{token}@git.example/acme/shop.git",
        "BUILDKITE_AGENT_ACCESS_TOKEN": "{token}",
    },
    "CircleCI": {
        "CIRCLE_SHA1": "{commit}",
        "CIRCLE_BRANCH": "main",
        "CIRCLE_REPOSITORY_URL": "https://x:{token}@git.example/acme/shop.git",
    },
    "Bitbucket": {
        "BITBUCKET_COMMIT": "{commit}",
        "BITBUCKET_BRANCH": "main",
        "BITBUCKET_GIT_HTTP_ORIGIN": "https://x-token-auth:{token}@git.example/acme/shop",
    },
    "Azure Pipelines": {
        "BUILD_SOURCEVERSION": "{commit}",
        "BUILD_SOURCEBRANCH": "refs/heads/main",
        "BUILD_REPOSITORY_URI": "https://acme:{token}@git.example/acme/shop",
        "SYSTEM_ACCESSTOKEN": "{token}",
    },
    "Drone": {
        "DRONE_COMMIT_SHA": "{commit}",
        "DRONE_BRANCH": "main",
        "DRONE_REPO_LINK": "https://x:{token}@git.example/acme/shop",
    },
    "Jenkins": {
        "GIT_COMMIT": "{commit}",
        "GIT_BRANCH": "origin/main",
        "GIT_URL": "https://jenkins:{token}@git.example/acme/shop.git",
        "JENKINS_URL": "https://jenkins:{token}@jenkins.example/",
        "BUILD_URL": "https://jenkins:{token}@jenkins.example/job/shop/7/?token={token}",
    },
}


@pytest.mark.parametrize("system", CI_SYSTEMS)
def test_t32_a_token_in_ci_variables_is_in_no_uploaded_byte(bench: Bench, system: str) -> None:
    commit = bench.git.git("rev-parse", "HEAD")
    environ = {name: value.format(commit=commit, token=TOKEN) for name, value in CI_SYSTEMS[system].items()}
    ended = bench.push(environ, "-o", "json")
    assert ended.exit_code == 0, ended.err
    bench.assert_unseen(ended)
    assert json.loads(ended.out)["revision"] == f"main@sha1:{commit}"
    assert b"https://git.example/acme/shop" in bench.tap.sent(), "the variables were read"


def test_t32_a_token_in_the_source_that_was_typed_is_cut_off(bench: Bench) -> None:
    ended = bench.push(None, "--source", f"https://ci:{TOKEN}@git.example/acme/shop.git")
    assert ended.exit_code == 0, ended.err
    bench.assert_unseen(ended)
    assert b"https://git.example/acme/shop" in bench.tap.sent()


def test_t32_a_registry_password_is_sent_to_the_registry_as_a_login_only(bench: Bench) -> None:
    ended = bench.push({"OCISYNC_CREDS": f"ci:{TOKEN}"})
    assert ended.exit_code == 0, ended.err
    assert TOKEN not in ended.out + ended.err
    for exchange in bench.tap.exchanges:
        assert TOKEN.encode() not in inflated(exchange.body)
        assert TOKEN not in exchange.target
        assert [value for name, value in exchange.headers if name.lower() != "authorization" and TOKEN in value] == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--source", f"user:{TOKEN}@git.example/acme/shop"),
        ("--ref", f"user:{TOKEN}@git.example/acme/shop"),
        ("--ref", f"https://{TOKEN}@git.example/acme/shop"),
        ("--revision", f"https://{TOKEN}@git.example/acme/shop"),
        ("--no-git", "--revision", f"https://user:{TOKEN}@git.example/acme/shop@main"),
    ],
    ids=lambda flags: " ".join(flags).replace(TOKEN, "TOKEN"),
)
def test_t32_a_token_in_a_flag_that_is_refused_is_not_repeated(bench: Bench, flags: tuple[str, ...]) -> None:
    ended = bench.push(None, *flags)
    assert ended.exit_code == 2
    bench.assert_unseen(ended)


def test_t32_a_token_in_the_url_that_git_fails_to_fetch_from_is_not_printed(bench: Bench, tmp_path: Path) -> None:
    bench.git.git("config", "uploadpack.allowFilter", "true")
    first = bench.git.git("rev-parse", "HEAD")
    bench.git.commit({"a.yaml": MANIFEST.replace("name: a", "name: b")}, at=COMMITTED)
    bench.git = bench.git.clone(tmp_path / "partial", "--filter=blob:none")
    url = f"http://x-access-token:{TOKEN}@127.0.0.1:{free_port()}/acme/shop.git"
    bench.git.git("config", "remote.origin.url", url)
    ended = bench.push(None, "--rev", first)
    assert ended.exit_code == 1
    assert "git ls-tree" in ended.err, "git itself failed, and its words were quoted"
    bench.assert_unseen(ended)
