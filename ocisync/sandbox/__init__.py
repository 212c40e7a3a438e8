"""Real servers in miniature, on loopback sockets: an OCI registry and a small Kubernetes API.

For the quickstart, demos, tests and fault injection, so that the product's own code runs unchanged. What each server
lacks is said in `registry.py` and `apiserver.py`; both pass the contract tests that the real servers pass, for what
they have.

    with Sandbox(directory) as sandbox:
        sandbox.registry.address      # 127.0.0.1:PORT
        sandbox.apiserver.url         # http://127.0.0.1:PORT
        sandbox.kubeconfig            # a file for kubectl and every client
        sandbox.registry.faults.add(r"/manifests/", action=Status(503))
        sandbox.apiserver.requests.count(user_agent="ocisync-agent", verb="apply")
"""

from ocisync.sandbox.apiserver import ApiServer
from ocisync.sandbox.faults import Corrupt, Delay, Endless, Faults, LoseAnswer, Reset, Status, Truncate
from ocisync.sandbox.registry import Registry
from ocisync.sandbox.registryauth import Account, Auth
from ocisync.sandbox.server import Sandbox

__all__ = [
    "Account",
    "ApiServer",
    "Auth",
    "Corrupt",
    "Delay",
    "Endless",
    "Faults",
    "LoseAnswer",
    "Registry",
    "Reset",
    "Sandbox",
    "Status",
    "Truncate",
]
