"""Environment variables → what provenance says about the run; and nothing else gets out."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.source.environment import Environment, build_environment

COMMIT = "5d4d9dd6f2a6e1b1e6a3f9c1f6a4fb1f0c0d0e0f"
SECRET = "s3cr3t-t0ken"
NOISE = {
    "PATH": "/home/jane/bin",
    "USER": "jane",
    "HOME": "/home/jane",
    "HOSTNAME": "janes-laptop",
    "GITHUB_TOKEN": SECRET,
    "GITHUB_ACTOR": "jane",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": SECRET,
    "CI_JOB_TOKEN": SECRET,
    "CI_REPOSITORY_URL": f"https://gitlab-ci-token:{SECRET}@gitlab.example/acme/shop.git",
    "GITLAB_USER_EMAIL": "jane@example.com",
    "BUILD_USER": "jane",
}
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_RUN_ID": "123456789",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": COMMIT,
    "GITHUB_REF": "refs/tags/v1.4.0",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_WORKFLOW_REF": "acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0",
    "RUNNER_ENVIRONMENT": "github-hosted",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": COMMIT,
    "CI_COMMIT_BRANCH": "main",
    "CI_JOB_URL": f"https://jane:{SECRET}@gitlab.example/acme/shop/-/jobs/77?private_token={SECRET}",
    "CI_PIPELINE_SOURCE": "push",
    "CI_CONFIG_REF_URI": "gitlab.example/acme/shop//.gitlab-ci.yml@refs/heads/main",
}
JENKINS = {
    "JENKINS_URL": "https://jenkins.example/",
    "BUILD_URL": f"https://jane:{SECRET}@jenkins.example/job/shop/job/main/42/",
    "JOB_NAME": "shop/main",
    "GIT_COMMIT": COMMIT,
    "GIT_BRANCH": "origin/main",
}

CASES = [
    (
        GITHUB,
        Environment(
            "github",
            "refs/tags/v1.4.0",
            "https://github.com/acme/shop/actions/runs/123456789/attempts/2",
            (
                ("event", "push"),
                ("runner", "github-hosted"),
                ("workflow", "acme/shop/.github/workflows/release.yml@refs/tags/v1.4.0"),
            ),
        ),
    ),
    (
        GITLAB,
        Environment(
            "gitlab",
            "refs/heads/main",
            "https://gitlab.example/acme/shop/-/jobs/77",
            (("event", "push"), ("workflow", "gitlab.example/acme/shop//.gitlab-ci.yml@refs/heads/main")),
        ),
    ),
    (
        JENKINS,
        Environment(
            "jenkins", "refs/heads/main", "https://jenkins.example/job/shop/job/main/42", (("job", "shop/main"),)
        ),
    ),
    ({}, Environment("local")),
    ({**GITHUB, "GITEA_ACTIONS": "true"}, Environment("local")),
]


@pytest.mark.parametrize(("environ", "expected"), CASES, ids=["github", "gitlab", "jenkins", "local", "gitea"])
def test_a_ci_system_is_told_by_its_variables_and_by_nothing_else(
    environ: dict[str, str], expected: Environment
) -> None:
    assert build_environment({**NOISE, **environ}, COMMIT) == expected


@pytest.mark.parametrize("environ", [GITHUB, GITLAB, JENKINS], ids=["github", "gitlab", "jenkins"])
def test_a_ref_is_believed_for_the_commit_that_it_is_of(environ: dict[str, str]) -> None:
    assert build_environment(environ, "b" * 40).ref == ""
    assert build_environment(environ, "").ref == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_WORKFLOW_REF", f"x@y\n{SECRET}"),
        ("GITHUB_WORKFLOW_REF", f"https://jane:{SECRET}@github.com/acme"),
        ("GITHUB_EVENT_NAME", f"push {SECRET}"),
        ("GITHUB_RUN_ID", SECRET),
        ("GITHUB_REPOSITORY", f"jane:{SECRET}@acme/shop"),
        ("GITHUB_SERVER_URL", f"https://jane:{SECRET}@github.com/?token={SECRET}"),
        ("GITHUB_REF", f"refs/heads/{SECRET}:x"),
        ("RUNNER_ENVIRONMENT", "x" * 61),
    ],
)
def test_a_value_of_another_form_is_left_out(name: str, value: str) -> None:
    found = build_environment({**GITHUB, name: value}, COMMIT)
    assert SECRET not in str(dataclasses.asdict(found))
    assert "jane" not in str(found)
    assert "x" * 61 not in str(found)


ANY = st.text(max_size=700)


@given(
    st.dictionaries(st.sampled_from(sorted({**GITHUB, **GITLAB, **JENKINS})), ANY),
    st.sampled_from([GITHUB, GITLAB, JENKINS]),
)
def test_whatever_variables_hold_values_are_short_and_printable(changes: dict[str, str], base: dict[str, str]) -> None:
    found = build_environment({**base, **changes}, COMMIT)
    for text in (found.system, found.ref, found.invocation, *(value for _, value in found.facts)):
        assert len(text) <= 600
        assert text.isprintable()
