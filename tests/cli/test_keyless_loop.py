"""push --keyless → verify, as a user types them; and the real cosign agrees, in both directions, on every registry."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.signing.roots import load_root
from tests.cli.conftest import Cli
from tests.servers import build
from tests.support import oidc
from tests.support.cosign import Cosign, CosignError
from tests.support.gitrepo import GitRepo
from tests.support.httpservers import LoopbackServer
from tests.support.privatesigstore import PrivateSigstore
from tests.support.process import free_port
from tests.support.registries import Registry
from tests.support.signedrepository import SignedRepository

FILES = {"app.yaml": "kind: ConfigMap\n", "keyless.yaml": "kind: Secret\n"}
WORKFLOW = "https://github.com/acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"
PERSON = ("dev@example.com", oidc.PEOPLE)
RELEASE = (WORKFLOW, oidc.GITHUB)


@pytest.fixture
def token(private_sigstore: PrivateSigstore, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(private_sigstore.github_token() + "\n")
    return path


def identity(who: tuple[str, str], sigstore: PrivateSigstore) -> list[str]:
    root = str(sigstore.trusted_root_file)
    return ["--certificate-identity", who[0], "--certificate-oidc-issuer", who[1], "--trusted-root", root]


def policy_file(path: Path, repository: str, **rule: object) -> str:
    keyless = {"issuer": oidc.GITHUB, "trustedRootRef": {"name": "any"}, **rule}
    spec = {
        "match": [{"repository": repository}],
        "authorities": [{"name": "ci", "keyless": keyless}],
        "threshold": 1,
        "requireTimestamp": True,
        "requireTransparencyLog": True,
    }
    document = {"apiVersion": "ocisync.dev/v1alpha1", "kind": "TrustPolicy", "metadata": {"name": "shop"}, "spec": spec}
    path.write_text(json.dumps(document))
    return str(path)


def test_what_we_push_keyless_is_verified_by_us_and_by_cosign(
    cli: Cli,
    repo: GitRepo,
    repository: str,
    private_sigstore: PrivateSigstore,
    cosign: Cosign,
    token: Path,
    tmp_path: Path,
) -> None:
    config = str(private_sigstore.trust_config_file)
    push = ["push", str(repo.path / "deploy"), f"oci://{repository}:1.0.0", "--keyless", "--trust-config", config]
    ran = cli(*push, "--identity-token", str(token), "-o", "json")
    assert ran.exit_code == 0, ran.err
    answer = json.loads(ran.out)
    (signed,) = answer["signatures"]
    assert (signed["identity"], signed["issuer"], signed["format"]) == (*RELEASE, "Bundle")

    again = cli(*push, "--identity-token", str(token), "-o", "json")
    assert json.loads(again.out)["unchanged"] is True
    assert json.loads(again.out)["signatures"] == [signed]

    reference = f"oci://{repository}:1.0.0"
    verified = cli("verify", reference, *identity(RELEASE, private_sigstore), "-o", "json")
    assert (verified.exit_code, json.loads(verified.out)["reason"]) == (0, "Verified")
    glob = WORKFLOW.replace("v1.4.0", "v*")
    policy = policy_file(
        tmp_path / "policy.json",
        repository,
        subjectGlob=glob,
        claims={"sourceRepository": "https://github.com/acme/shop"},
    )
    root = str(private_sigstore.trusted_root_file)
    judged = cli("verify", reference, "--policy", policy, "--trusted-root", root, "-o", "json")
    assert (judged.exit_code, json.loads(judged.out)["signers"]) == (0, ["ci"])

    name, claims = f"{repository}@{answer['digest']}", {"dev.ocisync.repository": repository}
    assert answer["digest"] in cosign.verify_keyless(name, Path(root), *RELEASE, annotations=claims)
    with pytest.raises(CosignError):
        cosign.verify_keyless(name, Path(root), *PERSON)
    with pytest.raises(CosignError):
        cosign.verify_keyless(name, Path(root), *RELEASE, annotations={"dev.ocisync.repository": "elsewhere"})


def test_what_cosign_signs_keyless_is_verified_by_us(
    cli: Cli, repository: str, private_sigstore: PrivateSigstore, cosign: Cosign, tmp_path: Path
) -> None:
    signed = SignedRepository(repository)
    built = signed.push(FILES, "production")
    name = f"{repository}@{built.descriptor.digest}"
    claims = signed.claims(sequence="1", signed="1")
    cosign.sign_keyless(name, private_sigstore, private_sigstore.github_token(), annotations=claims)
    reference = f"oci://{repository}:production"
    assert cli("verify", reference, *identity(RELEASE, private_sigstore)).exit_code == 0
    policy = policy_file(tmp_path / "policy.json", repository, subject=WORKFLOW)
    root = ["--trusted-root", str(private_sigstore.trusted_root_file)]
    assert cli("verify", reference, "--policy", policy, *root).exit_code == 0
    rootless = cli("verify", reference, "--policy", policy)
    assert (rootless.exit_code, "here, add --trusted-root FILE" in rootless.err) == (4, True)

    stranger = cli("verify", reference, *identity(PERSON, private_sigstore))
    assert (stranger.exit_code, "wants the issuer" in stranger.err) == (4, True)
    elsewhere = policy_file(tmp_path / "other.json", repository, subject=WORKFLOW.replace("acme", "evil"))
    refused = cli("verify", reference, "--policy", elsewhere, *root)
    assert (refused.exit_code, "wants the subject" in refused.err) == (4, True)


def test_a_keyless_attestation_of_cosign_is_no_signature_for_us(
    cli: Cli, repository: str, private_sigstore: PrivateSigstore, cosign: Cosign, tmp_path: Path
) -> None:
    built = SignedRepository(repository).push(FILES, "production")
    predicate = tmp_path / "predicate.json"
    predicate.write_text("{}")
    name, token = f"{repository}@{built.descriptor.digest}", private_sigstore.github_token()
    cosign.attest_keyless(name, private_sigstore, token, predicate, "https://slsa.dev/provenance/v1")
    refused = cli("verify", f"oci://{repository}:production", *identity(RELEASE, private_sigstore))
    assert (refused.exit_code, "an attestation" in refused.err) == (4, True)
    # The difference that docs/keyless.md states.
    assert cosign.verify_keyless(name, private_sigstore.trusted_root_file, *RELEASE)


def test_a_keyless_signature_copied_to_another_repository_is_good_for_cosign_and_not_for_us(
    cli: Cli, olareg: Registry, private_sigstore: PrivateSigstore, cosign: Cosign
) -> None:
    here, there = (SignedRepository(f"{olareg.host}/keyless/{name}") for name in ("here", "there"))
    built = here.push(FILES, "production")
    there.push(built, "production")
    name = f"{here.repository}@{built.descriptor.digest}"
    claims = here.claims(sequence="1", signed="1")
    cosign.sign_keyless(name, private_sigstore, private_sigstore.github_token(), annotations=claims)
    (found,) = collect(here.store, built.descriptor.digest, budget=EvidenceBudget(time.monotonic)).items
    there.attach_bundle(built.descriptor, found.payload)
    copied = f"{there.repository}@{built.descriptor.digest}"
    assert cosign.verify_keyless(copied, private_sigstore.trusted_root_file, *RELEASE)
    refused = cli("verify", f"oci://{there.repository}:production", *identity(RELEASE, private_sigstore))
    assert (refused.exit_code, "for the repository" in refused.err) == (4, True)


def test_a_legacy_signature_with_a_certificate_is_refused(
    cli: Cli,
    sandbox_registry: Registry,
    repo: GitRepo,
    private_sigstore: PrivateSigstore,
    cosign: Cosign,
    tmp_path: Path,
) -> None:
    host = sandbox_registry.host
    built = SignedRepository(f"{host}/keyless/legacy").push(FILES, "production")
    name = f"{host}/keyless/legacy@{built.descriptor.digest}"
    cosign.sign_keyless_legacy(name, private_sigstore, private_sigstore.token_of("dev@example.com"))
    refused = cli("verify", f"oci://{host}/keyless/legacy:production", *identity(PERSON, private_sigstore))
    assert refused.exit_code == 4
    target = f"oci://{host}/keyless/legacy:1.0.0"
    both = cli("push", str(repo.path / "deploy"), target, "--keyless", "--legacy-signature")
    assert (both.exit_code, "--keyless excludes --legacy-signature" in both.err) == (2, True)


def test_cosigns_trusted_root_is_a_trusted_root_for_us(private_sigstore: PrivateSigstore, cosign: Cosign) -> None:
    root = private_sigstore.trusted_root
    keys = cosign.directory / "roots"
    keys.mkdir(exist_ok=True)
    for name, part in (("ct", root["ctlogs"][0]), ("rekor", root["tlogs"][0])):
        lines = ["-----BEGIN PUBLIC KEY-----", part["publicKey"]["rawBytes"], "-----END PUBLIC KEY-----", ""]
        (keys / f"{name}.pub").write_text("\n".join(lines))
    for name, part in (("fulcio", root["certificateAuthorities"][0]), ("tsa", root["timestampAuthorities"][0])):
        blocks = [
            f"-----BEGIN CERTIFICATE-----\n{item['rawBytes']}\n-----END CERTIFICATE-----\n"
            for item in part["certChain"]["certificates"]
        ]
        (keys / f"{name}.pem").write_text("".join(blocks))
    since, out = "start-time=2026-11-01T00:00:00Z", keys / "trusted_root.json"
    urls = {name: private_sigstore.url(name) for name in ("fulcio", "rekor", "timestamp")}
    cosign.run(
        "trusted-root", "create", "--out", str(out),
        f"--fulcio=url={urls['fulcio']},certificate-chain={keys / 'fulcio.pem'},{since}",
        f"--ctfe=url=http://127.0.0.1:15062/test,public-key={keys / 'ct.pub'},{since}",
        f"--rekor=url={urls['rekor']},public-key={keys / 'rekor.pub'},{since},origin=127.0.0.1",
        f"--tsa=url={urls['timestamp']}/api/v1/timestamp,certificate-chain={keys / 'tsa.pem'},{since}",
    )  # fmt: skip
    ours = load_root(private_sigstore.trusted_root_file.read_bytes())
    kinds = sorted(part.kind for part in load_root(out.read_bytes()).parts)
    assert kinds == sorted(part.kind for part in ours.parts)


@pytest.mark.parametrize(
    ("code", "problem", "arguments"),
    [
        (2, "--identity-token is for keyless signing", ["--identity-token", "token"]),
        (2, "--trust-config is for keyless signing", ["--trust-config", "config.json"]),
        (2, "--keyless excludes --watch", ["--keyless", "--watch"]),
        (5, "no identity token nobody", ["--keyless", "--identity-token", "nobody"]),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_happens(
    cli: Cli, repo: GitRepo, code: int, problem: str, arguments: list[str]
) -> None:
    ran = cli("push", str(repo.path / "deploy"), "oci://127.0.0.1:1/shop:1.0.0", *arguments)
    assert (ran.exit_code, problem in ran.err) == (code, True), ran.err


@pytest.mark.parametrize(
    ("code", "problem", "arguments"),
    [
        (2, "judged by who signed and who says so", ["--certificate-identity", "dev@example.com"]),
        (2, "judged by who signed and who says so", ["--certificate-oidc-issuer", "https://accounts.example"]),
        (2, "no trusted root", [
            "--certificate-identity", "dev@example.com", "--certificate-oidc-issuer", "https://accounts.example"]),
        (2, "not whom to trust", ["--trusted-root", "root.json"]),
        (2, "excludes --key and --policy", ["--certificate-identity", "a", "--key", "b"]),
        (2, "leaves the mail domain open", [
            "--certificate-identity-glob", "dev@*", "--certificate-oidc-issuer", "https://accounts.example",
            "--trusted-root", "root.json"]),
        (2, "not for which repository it ran", [
            "--certificate-identity-glob", "https://github.com/acme/shop/.github/workflows/*",
            "--certificate-oidc-issuer", "https://token.actions.githubusercontent.com", "--trusted-root", "root.json"]),
        (5, "no trusted root root.json", [
            "--certificate-identity", "dev@example.com", "--certificate-oidc-issuer", "https://accounts.example",
            "--trusted-root", "root.json"]),
    ],
)  # fmt: skip
def test_an_identity_that_is_not_named_completely_is_refused(
    cli: Cli, code: int, problem: str, arguments: list[str]
) -> None:
    ran = cli("verify", "oci://127.0.0.1:1/shop:1.0.0", *arguments)
    assert (ran.exit_code, problem in ran.err) == (code, True), ran.err


def test_without_the_library_the_command_line_says_what_to_install(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)  # as if it were not installed
    root = str(build.HERE.parent / "assets/sigstore/trusted_root.json")
    who = ["--certificate-identity", "dev@example.com", "--certificate-oidc-issuer", "https://accounts.example"]
    for arguments in (
        ["verify", "oci://127.0.0.1:1/shop:1.0.0", *who, "--trusted-root", root],
        ["push", str(repo.path / "deploy"), "oci://127.0.0.1:1/shop:1.0.0", "--keyless"],
    ):
        ran = cli(*arguments)
        assert (ran.exit_code, "pip install 'ocisync[keyless]'" in ran.err) == (1, True), ran.err


def test_without_an_identity_the_push_says_how_to_get_one(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(_config()))
    target = "oci://127.0.0.1:1/shop:1.0.0"
    ran = cli("push", str(repo.path / "deploy"), target, "--keyless", "--trust-config", str(config))
    assert (ran.exit_code, "hands out identity tokens" in ran.err) == (2, True), ran.err
    assert "permission id-token (write)" in ran.err


@pytest.fixture
def github(private_sigstore: PrivateSigstore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A GitHub job's surroundings: the endpoint that hands out its identity token; what it was asked for."""
    asked: list[str] = []

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['Authorization']}")
            body = json.dumps({"value": private_sigstore.github_token()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = LoopbackServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job-secret")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{server.server_port}/token?run=7")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_github_job_signs_as_itself(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, private_sigstore: PrivateSigstore, github: list[str]
) -> None:
    target = f"oci://{sandbox_registry.host}/keyless/github:1.0.0"
    config = str(private_sigstore.trust_config_file)
    ran = cli("push", str(repo.path / "deploy"), target, "--keyless", "--trust-config", config)
    assert ran.exit_code == 0, ran.err
    assert github == ["/token?run=7&audience=sigstore bearer job-secret"]
    assert f"signed    {WORKFLOW} (Bundle)" in ran.out
    assert f"--certificate-identity {WORKFLOW} --certificate-oidc-issuer {oidc.GITHUB}" in ran.err
    assert cli("verify", target, *identity(RELEASE, private_sigstore)).exit_code == 0


def test_gitlabs_variable_holds_the_token(
    cli: Cli,
    repo: GitRepo,
    sandbox_registry: Registry,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", private_sigstore.gitlab_token())
    target = f"oci://{sandbox_registry.host}/keyless/gitlab:1.0.0"
    config = str(private_sigstore.trust_config_file)
    ran = cli("push", str(repo.path / "deploy"), target, "--keyless", "--trust-config", config)
    assert ran.exit_code == 0, ran.err
    pipeline = ("https://gitlab.com/acme/shop//.gitlab-ci.yml@refs/heads/main", oidc.GITLAB)
    assert cli("verify", target, *identity(pipeline, private_sigstore)).exit_code == 0


def test_a_key_and_an_identity_sign_together(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, private_sigstore: PrivateSigstore, token: Path, tmp_path: Path
) -> None:
    target = f"oci://{sandbox_registry.host}/keyless/both:1.0.0"
    assert cli("keys", "generate", "k").exit_code == 0
    keyless = ["--keyless", "--identity-token", str(token), "--trust-config", str(private_sigstore.trust_config_file)]
    ran = cli("push", str(repo.path / "deploy"), target, "--sign-key", "k.key", *keyless, "-o", "json")
    assert ran.exit_code == 0, ran.err
    assert sorted("key" in item for item in json.loads(ran.out)["signatures"]) == [False, True]
    assert cli("verify", target, "--key", "k.pub").exit_code == 0
    assert cli("verify", target, *identity(RELEASE, private_sigstore)).exit_code == 0


def test_an_expired_or_foreign_token_is_a_login_problem_and_is_never_shown(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, private_sigstore: PrivateSigstore, tmp_path: Path
) -> None:
    target = f"oci://{sandbox_registry.host}/keyless/refused:1.0.0"
    expired = private_sigstore.token_of("dev@example.com", lifetime_s=-60)
    forged = private_sigstore.token_of("dev@example.com")[:-10] + "AAAAAAAAAA"
    for made in (expired, forged):
        (tmp_path / "token").write_text(made)
        config = str(private_sigstore.trust_config_file)
        ran = cli("push", str(repo.path / "deploy"), target, "--keyless", "--trust-config", config,
                  "--identity-token", str(tmp_path / "token"), "-v")  # fmt: skip
        assert ran.exit_code == 6, ran.err
        assert all(part not in ran.out + ran.err for part in made.split("."))
    assert SignedRepository(target.removeprefix("oci://").rpartition(":")[0]).store.resolve("1.0.0") is None


def test_services_that_do_not_answer_are_a_reason_to_try_again(
    cli: Cli, repo: GitRepo, sandbox_registry: Registry, private_sigstore: PrivateSigstore, token: Path, tmp_path: Path
) -> None:
    config = private_sigstore.trust_config
    config["signingConfig"]["caUrls"][0]["url"] = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "config.json").write_text(json.dumps(config))
    target = f"oci://{sandbox_registry.host}/keyless/outage:1.0.0"
    ran = cli("push", str(repo.path / "deploy"), target, "--keyless", "--trust-config", str(tmp_path / "config.json"),
              "--identity-token", str(token))  # fmt: skip
    assert ran.exit_code == 7, ran.err


def _config() -> dict[str, object]:
    """A trust configuration whose services are nowhere."""
    root = json.loads((build.HERE.parent / "assets/sigstore/trusted_root.json").read_text())
    service = [{"url": "http://127.0.0.1:1", "majorApiVersion": 1, "operator": "x"}]
    signing = {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service,
        "rekorTlogUrls": service,
        "rekorTlogConfig": {},
        "tsaConfig": {},
    }
    media_type = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
    return {"mediaType": media_type, "trustedRoot": root, "signingConfig": signing}
