"""A streaming proxy over httpx2."""

from __future__ import annotations

import httpx2  # type: ignore[import-not-found, unused-ignore]
from bench.peers.answers import upstream
from bench.peers.apps.client_proxy import AT_ONCE, ClientProxy

client = httpx2.AsyncClient(
    limits=httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
    timeout=15.0,
    trust_env=False,
)
app = ClientProxy(client, upstream())
