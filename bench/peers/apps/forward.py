"""gatekit, forward only: one route, one cluster, no policy, every setting as it comes."""

from __future__ import annotations

from bench.peers.answers import upstream

from gatekit import Cluster, Gateway, Route

app = Gateway(routes=[Route("/*", to="up")], clusters={"up": Cluster(upstream())})
