"""How a registry is spoken to. Front ends fill this in from flags and the environment; libraries read neither."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from ocisync import __version__
from ocisync.model.values import dataclass
from ocisync.oci.credentials import CredentialSource
from ocisync.oci.retry import RetryPlan


def _ignore(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options of one registry connection.

    Attributes:
        plain_http: True: http; False: https; None: http for loopback names only, and not where certificates are named.
        ca_file: PEM file of authorities trusted in addition to the system's.
        ca_data: the same as text, where there is no file.
        client_cert: certificate and key files, shown to the registry alone.
        creds: `USER:PASSWORD`; secret.
        config_file: the one login file to use instead of the usual places.
        credentials: where logins come from; replaces `creds`, `config_file` and the environment.
        environ: the environment, for login files, helpers and proxies; empty means none of these.
        proxy: URL of the one proxy to use instead of the environment's, with its login; secret. It comes from whoever
            names the registry, so it may lead nowhere where a registry may not be either.
        timeout_s: seconds without a byte before a request counts as lost.
        connect_timeout_s: seconds for a connection to be made.
        plan: retries of one operation.
        tags_page: names to ask for at once; registries refuse more than 1,000.
        chunk_bytes: a blob's bytes in one request where it goes in parts; below the usual body limits of proxies.
        on_warning: told about unusable logins, registries' warnings and the like, in a sentence.
        sleep: waits between attempts; an agent passes its stop token's wait.
    """

    plain_http: bool | None = None
    ca_file: Path | None = None
    ca_data: str = ""
    client_cert: tuple[Path, Path] | None = None
    creds: str = field(default="", repr=False)
    config_file: Path | None = None
    credentials: CredentialSource | None = field(default=None, repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str = field(default="", repr=False)
    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    plan: RetryPlan = field(default_factory=RetryPlan)
    user_agent: str = f"ocisync/{__version__}"
    tags_page: int = 500
    chunk_bytes: int = 8 * 1024 * 1024
    on_warning: Callable[[str], None] = _ignore
    sleep: Callable[[float], object] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
