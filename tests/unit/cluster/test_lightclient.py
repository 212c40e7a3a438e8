"""The Kubernetes library is imported without what is never used, and what is used after all is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: secret}}]
"""


def run(directory: Path, program: str) -> list[str]:
    """In an interpreter of its own: which modules are loaded is a state of the process."""
    (directory / "config").write_text(KUBECONFIG)
    start = "import sys\nfrom ocisync.cluster.client import connect\nconnect('config', user_agent='tests')\n"
    command = [sys.executable, "-c", start + program]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=300, check=True
    ).stdout.splitlines()


def test_connecting_loads_neither_the_generated_client_nor_its_validation_library(tmp_path: Path) -> None:
    program = (
        "print([name for name in ('pydantic', 'websocket', 'requests_oauthlib.oauth2_session') if name in sys.modules])"
    )
    assert run(tmp_path, program) == ["[]"]


def test_what_the_reader_of_kubeconfigs_needs_for_an_oidc_login_works_when_it_is_called(tmp_path: Path) -> None:
    program = """
from kubernetes.config import kube_config as reader
print(type(reader.ApiClient(configuration=reader.Configuration())).__module__)
print(type(reader.OAuth2Session(client_id='x')).__module__)
print(issubclass(reader.oauthlib.oauth2.rfc6749.errors.InvalidClientIdError, Exception))
"""
    assert run(tmp_path, program) == ["kubernetes.client.api_client", "requests_oauthlib.oauth2_session", "True"]


def test_the_other_parts_of_the_library_are_there_for_whoever_else_uses_them(tmp_path: Path) -> None:
    program = """
import kubernetes
from kubernetes import dynamic, watch
print(dynamic.DynamicClient.__name__, watch.Watch.__name__, kubernetes.client.CoreV1Api.__name__)
"""
    assert run(tmp_path, program) == ["DynamicClient Watch CoreV1Api"]
