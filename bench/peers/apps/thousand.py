"""gatekit with a table of 1,000 routes, a hundred API keys and a rate limit, every other setting as it comes.

The limit is counted for every request and never reached, so what is measured is a request that passes.
"""

from __future__ import annotations

from bench.peers.answers import KEY, KEY_HEADER, upstream

from gatekit import ApiKey, Authn, Cluster, Gateway, RateLimit, Route, api_keys

ROUTES = 1000
KEYS = {f"client-{number}": ApiKey(secret=f"{KEY}-{number}") for number in range(99)} | {"bench": ApiKey(secret=KEY)}

app = Gateway(
    policies=[RateLimit("10000000/second", by="client_ip"), Authn(api_keys(KEYS, header=KEY_HEADER))],
    routes=[Route(f"GET /v1/service-{number}/items/{{id}}", to="up") for number in range(ROUTES)],
    clusters={"up": Cluster(upstream())},
)
