"""A streaming proxy over httpx."""

from __future__ import annotations

import httpx
from bench.peers.answers import upstream
from bench.peers.apps.client_proxy import AT_ONCE, ClientProxy

client = httpx.AsyncClient(
    limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
    timeout=15.0,
    trust_env=False,
)
app = ClientProxy(client, upstream())
