from __future__ import annotations

import pytest

from ocisync.model.errors import UsageError
from ocisync.source.revision import check_ref, check_source, ci_ref, ci_source, clean_url, revision_text

COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://git.example/acme/shop.git", "https://git.example/acme/shop"),
        ("https://user:token@Git.Example:443/acme/shop.git/?a=b#c", "https://git.example/acme/shop"),
        ("https://git.example:8443/acme/shop", "https://git.example:8443/acme/shop"),
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop"),
        ("github.com:acme/shop", "https://github.com/acme/shop"),
        ("ssh://git@git.example:2222/acme/shop.git", "https://git.example/acme/shop"),
        ("git://git.example/acme/shop", "git://git.example/acme/shop"),
        ("http://[::1]:3000/acme/shop.git", "http://[::1]:3000/acme/shop"),
        ("/srv/git/shop.git", ""),
        ("file:///srv/git/shop.git", ""),
        ("../shop", ""),
        ("C:\\git\\shop", ""),
        ("https:///nohost", ""),
        ("https://git.example/", ""),
        ("https://git.example:port/x", ""),
        ("ext::sh -c evil", ""),
        ("", ""),
    ],
)
def test_a_remote_becomes_a_public_name(url: str, clean: str) -> None:
    assert clean_url(url) == clean


@pytest.mark.parametrize(
    ("environ", "ref", "source"),
    [
        (
            {
                "GITHUB_SHA": COMMIT,
                "GITHUB_REF_NAME": "v1.0.0",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "acme/shop",
            },
            "v1.0.0",
            "https://github.com/acme/shop",
        ),
        (
            {"CI_COMMIT_SHA": COMMIT, "CI_COMMIT_REF_NAME": "main", "CI_PROJECT_URL": "https://gitlab.example/a/b"},
            "main",
            "https://gitlab.example/a/b",
        ),
        ({"CI_COMMIT_SHA": COMMIT, "CI_COMMIT_BRANCH": "b", "CI_COMMIT_TAG": "t"}, "t", ""),
        ({"BUILD_SOURCEVERSION": COMMIT, "BUILD_SOURCEBRANCH": "refs/heads/feature/x"}, "feature/x", ""),
        (
            {"GIT_COMMIT": COMMIT, "GIT_BRANCH": "origin/main", "GIT_URL": "git@github.com:acme/shop.git"},
            "main",
            "https://github.com/acme/shop",
        ),
        ({"GITHUB_SHA": "d" * 40, "GITHUB_REF_NAME": "other"}, "", ""),
        ({"GITHUB_SHA": COMMIT, "GITHUB_REF_NAME": "bad ref"}, "", ""),
        ({}, "", ""),
    ],
)
def test_ci_variables_count_for_their_own_commit(environ: dict[str, str], ref: str, source: str) -> None:
    assert ci_ref(environ, COMMIT) == ref
    assert ci_source(environ, COMMIT) == source


def test_a_revision_names_its_hash() -> None:
    assert revision_text("main", COMMIT, dirty=False) == f"main@sha1:{COMMIT}"
    assert revision_text("main", "e" * 64, dirty=True) == f"main@sha256:{'e' * 64}-dirty"


@pytest.mark.parametrize("ref", ["", "a b", "a\nb", "a:b", "x" * 300, "a@{1}"])
def test_a_bad_ref_is_refused(ref: str) -> None:
    with pytest.raises(UsageError, match="bad ref"):
        check_ref(ref)


def test_a_bad_source_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as caught:
        check_source("user:hunter2@git.example/acme/shop")
    assert "hunter2" not in str(caught.value)
    assert check_ref("renovate/@types-node") == "renovate/@types-node"
