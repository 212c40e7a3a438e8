"""The Kubernetes library without the parts that this program never uses: 11 MiB and a sixth of a second less.

Its root package imports everything it has, and its reader of kubeconfig files the generated client with a validation
library, and the OAuth libraries. We need the reader of access data and the connection pool. The rest is executed when
something does use it: the refresh of an OIDC login does.
"""

from __future__ import annotations

from ocisync.kit.lazymodule import defer, postpone

_UNUSED = {f"kubernetes.{part}": () for part in ("dynamic", "informer", "leaderelection", "stream", "utils", "watch")}
_BY_NAME = {"kubernetes.client.api_client": ("ApiClient",), "requests_oauthlib": ("OAuth2Session",)}


def lighten() -> None:
    """To be called before the library is imported; afterwards it does nothing."""
    # requests, which it imports, wants to know its version, and would guess the encodings of texts with it.
    defer("charset_normalizer", version_in="version")
    postpone({**_UNUSED, **_BY_NAME, "oauthlib.oauth2": ()})
