"""What an agent that trusts one key would say of a tag."""

from __future__ import annotations

from datetime import UTC, datetime

from ocisync.flows.trust import trust_keys
from ocisync.flows.verify import Request, collect_within_limits, verify
from ocisync.model.artifact import Verified
from ocisync.model.spec import SelectorKind
from ocisync.oci.client import open_store
from ocisync.signing.keys import PublicKey


def verified(repository: str, tag: str, key: PublicKey) -> Verified:
    """Verify a tag now; raises what `verify` raises."""
    wanted = Request(repository=repository, kind=SelectorKind.TAG, tag=tag)
    with open_store(repository) as store:
        trust = trust_keys([key], repository)
        return verify(store, trust, wanted, now=datetime.now(UTC), collect=collect_within_limits)


def tagged(repository: str, tag: str) -> str:
    """The digest that a tag points to; empty if there is none."""
    with open_store(repository) as store:
        descriptor = store.resolve(tag)
    return descriptor.digest if descriptor else ""
