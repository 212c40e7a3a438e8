"""Both servers together, with a directory for what should survive and a kubeconfig."""

from __future__ import annotations

from pathlib import Path

from ocisync.sandbox.apiserver import ApiServer
from ocisync.sandbox.registry import Registry
from ocisync.sandbox.registryauth import Auth


class Sandbox:
    """A registry, kept below `directory/registry`, and an API server, in memory."""

    def __init__(
        self,
        directory: Path,
        *,
        registry_port: int = 0,
        api_port: int = 0,
        referrers: bool = True,
        auth: Auth | None = None,
        controllers: bool = True,
        persistent: bool = True,
    ) -> None:
        """Prepare; nothing listens until the context is entered or `start` is called.

        Args:
            directory: holds the kubeconfig and, if `persistent`, the registry's content.
            registry_port: 0 takes a free one.
            api_port: 0 takes a free one.
            referrers: whether the registry has the referrers API.
            auth: logins of the registry; open when None.
            controllers: whether workloads come to life.
            persistent: whether the registry keeps its content on disk.
        """
        self.directory = directory
        self.registry = Registry(
            port=registry_port,
            directory=directory / "registry" if persistent else None,
            referrers=referrers,
            auth=auth,
        )
        self.apiserver = ApiServer(port=api_port, controllers=controllers)
        self.kubeconfig = directory / "kubeconfig"

    def start(self) -> Sandbox:
        """Listen and write the kubeconfig."""
        self.registry.start()
        self.apiserver.start()
        self.apiserver.write_kubeconfig(self.kubeconfig)
        return self

    def close(self) -> None:
        """Stop both servers."""
        self.registry.stop()
        self.apiserver.close()

    def __enter__(self) -> Sandbox:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()
