"""The policies that ship, together and each alone: none of them ever waits for the event loop."""

from __future__ import annotations

from typing import Any

import pytest

from gatekit import Authn, Cors, RateLimit, SecurityHeaders, Spec, Telemetry, api_keys
from gatekit.asgi import Policies
from gatekit.testing import FakeCounters, Suspensions, call, call_wsgi, test_ports
from gatekit.wsgi import Policies as WsgiPolicies

KEY = "0123456789abcdef0123456789abcdef"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def hello_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


SHIPPED: dict[str, Spec] = {
    "telemetry": Telemetry(),
    "cors": Cors(["https://a.test"]),
    "security_headers": SecurityHeaders(),
    "rate_limit": RateLimit("5/minute", by="client_ip"),
    "authn": Authn(api_keys({"ann": KEY})),
}


@pytest.mark.parametrize("names", [[name] for name in SHIPPED] + [list(SHIPPED)], ids="-".join)
@pytest.mark.parametrize("store", [False, True], ids=["own state", "store in memory"])
async def test_no_shipped_policy_suspends(names: list[str], store: bool) -> None:
    ports = test_ports(counters=FakeCounters() if store else None)
    with Suspensions() as suspensions:
        app = Policies(hello, *suspensions.watch(*(SHIPPED[name] for name in names)), ports=ports)
        response = await call(app, headers={"x-api-key": KEY, "origin": "https://a.test"})
    assert (response.status, response.body) == (200, b"ok")
    wsgi_app = WsgiPolicies(hello_wsgi, *(SHIPPED[name] for name in names), ports=ports)
    assert call_wsgi(wsgi_app, headers={"x-api-key": KEY, "origin": "https://a.test"}).status == 200
