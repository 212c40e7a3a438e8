"""Where a push runs, for provenance: which CI system, which run of it. Pure.

Only variables that are named here are looked at, and a value is taken only if it has the form that it should have:
nothing else of the environment can get out, tokens, users and host names least of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocisync.model.values import dataclass
from ocisync.source.revision import clean_url, is_ref

_TEXT_CHARS = 500
_WORD = re.compile(r"[A-Za-z0-9_-]{1,60}\Z")
_NUMBER = re.compile(r"[0-9]{1,20}\Z")
_PATH = re.compile(r"[A-Za-z0-9_./-]{1,300}\Z")
_CONFIG = re.compile(r"[A-Za-z0-9_./-]{1,300}@[A-Za-z0-9_./+-]{1,190}\Z")  # of a file in a repository, at a ref


@dataclass(frozen=True, slots=True)
class Environment:
    """One run of a system.

    Attributes:
        system: `github`, `gitlab`, `jenkins`; `local` for everything else.
        ref: what it runs for, as Git stores it, if it says so for the commit that is packed.
        invocation: the address of the run.
        facts: what else is known, sorted.
    """

    system: str
    ref: str = ""
    invocation: str = ""
    facts: tuple[tuple[str, str], ...] = ()


def build_environment(environ: Mapping[str, str], commit: str) -> Environment:
    """Read the variables of the CI system, if there is one."""
    if environ.get("GITHUB_ACTIONS") == "true" and not {"GITEA_ACTIONS", "FORGEJO_ACTIONS"} & set(environ):
        return _github(environ, commit)
    if environ.get("GITLAB_CI") == "true":
        return _gitlab(environ, commit)
    if environ.get("JENKINS_URL") and environ.get("BUILD_URL"):
        return _jenkins(environ, commit)
    return Environment("local")


def _github(environ: Mapping[str, str], commit: str) -> Environment:
    server = clean_url(environ.get("GITHUB_SERVER_URL", "") + "/x").removesuffix("/x")  # it has no path of its own
    repository = _get(environ, "GITHUB_REPOSITORY", _PATH)
    run, attempt = _get(environ, "GITHUB_RUN_ID", _NUMBER), _get(environ, "GITHUB_RUN_ATTEMPT", _NUMBER)
    address = f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
    return Environment(
        "github",
        _ref(environ, commit, "GITHUB_SHA", environ.get("GITHUB_REF", "")),
        f"{address}/attempts/{attempt}" if address and attempt else address,
        _facts(
            event=_get(environ, "GITHUB_EVENT_NAME", _WORD),
            runner=_get(environ, "RUNNER_ENVIRONMENT", _WORD),
            workflow=_get(environ, "GITHUB_WORKFLOW_REF", _CONFIG),
        ),
    )


def _gitlab(environ: Mapping[str, str], commit: str) -> Environment:
    tag, branch = environ.get("CI_COMMIT_TAG", ""), environ.get("CI_COMMIT_BRANCH", "")
    return Environment(
        "gitlab",
        _ref(environ, commit, "CI_COMMIT_SHA", f"refs/tags/{tag}" if tag else f"refs/heads/{branch}"),
        _address(environ, "CI_JOB_URL"),
        _facts(event=_get(environ, "CI_PIPELINE_SOURCE", _WORD), workflow=_get(environ, "CI_CONFIG_REF_URI", _CONFIG)),
    )


def _jenkins(environ: Mapping[str, str], commit: str) -> Environment:
    tag, branch = environ.get("TAG_NAME", ""), environ.get("GIT_BRANCH", "").removeprefix("origin/")
    return Environment(
        "jenkins",
        _ref(environ, commit, "GIT_COMMIT", f"refs/tags/{tag}" if tag else f"refs/heads/{branch}"),
        _address(environ, "BUILD_URL"),
        _facts(job=_get(environ, "JOB_NAME", _PATH)),
    )


def _get(environ: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = environ.get(name, "").strip()
    return value if form.match(value) else ""


def _ref(environ: Mapping[str, str], commit: str, variable: str, ref: str) -> str:
    """A branch or tag, if the system says that it is of this commit."""
    for prefix in ("refs/heads/", "refs/tags/"):
        if ref.startswith(prefix) and is_ref(ref.removeprefix(prefix)) and ref.isprintable():
            return ref if commit and environ.get(variable, "").strip().lower() == commit else ""
    return ""


def _address(environ: Mapping[str, str], name: str) -> str:
    address = clean_url(environ.get(name, ""))  # without user info and query
    return address if len(address) <= _TEXT_CHARS and address.isprintable() else ""


def _facts(**found: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in found.items() if value))
