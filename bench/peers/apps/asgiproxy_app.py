"""asgiproxy as its own command line builds it (`asgiproxy.__main__.make_app`), with two limits raised.

As it comes, it lets 20 requests at a time ask the upstream and 100 connections be open; measured at 128 connections,
that would be a measurement of the limits. It streams answers only above 5 MiB and reads smaller ones whole: its own way.
"""

from __future__ import annotations

import aiohttp  # type: ignore[import-not-found, unused-ignore]
from asgiproxy.config import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    BaseURLProxyConfigMixin,
    ProxyConfig,
)
from asgiproxy.context import ProxyContext  # type: ignore[import-not-found, import-untyped, unused-ignore]
from asgiproxy.simple_proxy import make_simple_proxy_app  # type: ignore[import-not-found, import-untyped, unused-ignore]
from bench.peers.answers import upstream

AT_ONCE = 512


class Config(BaseURLProxyConfigMixin, ProxyConfig):  # type: ignore[misc, unused-ignore]
    upstream_base_url = upstream()
    rewrite_host_header = upstream().removeprefix("http://")


class Context(ProxyContext):  # type: ignore[misc, unused-ignore]
    """The session is made at the first request, on the server's loop, as asgiproxy does it."""

    _session: aiohttp.ClientSession | None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


app = make_simple_proxy_app(Context(Config(), max_concurrency=AT_ONCE))
