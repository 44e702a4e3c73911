"""Every middleware class alone on a bare app, in both worlds; and what each says when it is given the wrong thing."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

import gatekit.asgi
import gatekit.wsgi
from gatekit import ApiKey, Authn, ConfigRefused, MisplacedPolicy, RateLimit, api_keys
from gatekit.testing import TestResponse, call, call_wsgi, test_ports

KEYS = {"methods": [api_keys({"k": ApiKey(secret="s3cret-s3cret", subject="alice")})]}


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    seen = json.dumps({name.decode(): value.decode() for name, value in scope["headers"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": seen})


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    seen = {key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    start_response("200 OK", [("X-App", "1")])
    return [json.dumps(seen).encode()]


async def ask(world: str, name: str, fields: dict[str, Any], method: str = "GET", **request: Any) -> TestResponse:
    """One request to the class of that name around a bare app."""
    middleware = getattr(getattr(gatekit, world), name)
    if world == "asgi":
        return await call(middleware(asgi_app, ports=test_ports(), **fields), method, **request)
    return call_wsgi(middleware(wsgi_app, ports=test_ports(), **fields), method, **request)


CORS = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
WORLDS = pytest.mark.parametrize("world", ["asgi", "wsgi"])


@WORLDS
async def test_authn(world: str) -> None:
    assert (await ask(world, "Authn", KEYS)).json()["code"] == "authn.missing_key"
    assert (await ask(world, "Authn", KEYS, headers={"x-api-key": "s3cret-s3cret"})).status == 200


@WORLDS
async def test_cors(world: str) -> None:
    fields = {"allow_origins": ["https://shop.example"], "allow_methods": ["PUT"]}
    got = await ask(world, "Cors", fields, "OPTIONS", headers=CORS)
    assert (got.status, got.header("access-control-allow-origin")) == (204, "https://shop.example")


@WORLDS
async def test_rate_limit(world: str) -> None:
    got = await ask(world, "RateLimit", {"limit": "5/minute"})
    assert got.header("ratelimit") == '"default";r=4;t=12'
    assert (await ask(world, "RateLimit", {"limit": "5/minute", "cost": 5, "headers": False})).header(
        "ratelimit"
    ) is None


@WORLDS
async def test_headers(world: str) -> None:
    assert (await ask(world, "RequestHeaders", {"set": {"x-a": "1"}})).json()["x-a"] == "1"
    assert (await ask(world, "ResponseHeaders", {"remove": ["x-app"]})).header("x-app") is None
    assert (await ask(world, "SecurityHeaders", {})).header("x-content-type-options") == "nosniff"


@WORLDS
async def test_telemetry(world: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gatekit.access"):
        got = await ask(world, "Telemetry", {})
    (line,) = [json.loads(record.message) for record in caplog.records if record.name == "gatekit.access"]
    assert (line["status"], line["request_id"]) == (200, got.header("x-request-id"))


@WORLDS
def test_positions_and_options_are_those_of_spec_and_stack(world: str) -> None:
    middlewares = getattr(gatekit, world)
    app = asgi_app if world == "asgi" else wsgi_app
    found = middlewares.RateLimit(app, "5/minute", trusted_proxies=["10.0.0.0/8"])
    assert found.specs == (RateLimit("5/minute"),)
    assert found.options.trusted_proxies == ("10.0.0.0/8",)
    # Equal options are run as one, others are not: they look at requests in another way.
    assert middlewares.Authn(middlewares.RateLimit(app, "5/minute"), **KEYS).specs == (
        Authn(**KEYS), RateLimit("5/minute"),
    )  # fmt: skip
    assert middlewares.Authn(found, **KEYS).specs == (Authn(**KEYS),)


@WORLDS
def test_the_header_that_tells_the_client_needs_somebody_to_believe(world: str) -> None:
    middlewares = getattr(gatekit, world)
    app = asgi_app if world == "asgi" else wsgi_app
    trusted = {"trusted_proxies": ["10.0.0.0/8"]}
    told = middlewares.RateLimit(app, "5/minute", client_ip_header="CF-Connecting-IP", **trusted)
    assert told.options.client_ip_header == "CF-Connecting-IP"
    assert middlewares.Authn(told, **KEYS, **trusted).specs == (Authn(**KEYS),)
    with pytest.raises(ValueError, match="in trusted_proxies, for from anybody else"):
        middlewares.RateLimit(app, "5/minute", client_ip_header="cf-connecting-ip")
    with pytest.raises(ValueError, match="x-forwarded-for is read already"):
        middlewares.Policies(app, client_ip_header="x-forwarded-for", **trusted)
    with pytest.raises(ConfigRefused, match="client_ip_header"):
        middlewares.Router(app, routes=[], clusters={}, client_ip_header="cf-connecting-ip")


@WORLDS
@pytest.mark.parametrize("name", ["Policies", "RateLimit", "Router"])
def test_what_is_no_app_is_refused_with_what_to_do(world: str, name: str) -> None:
    needed: dict[str, dict[str, Any]] = {"RateLimit": {"limit": "1/second"}, "Router": {"routes": [], "clusters": {}}}
    fields = needed.get(name, {})
    for wrong in (RateLimit("1/second"), "app", None):
        with pytest.raises(MisplacedPolicy, match=rf"{name} wraps an? {world.upper()} app"):
            getattr(getattr(gatekit, world), name)(wrong, **fields)


def test_a_tls_context_is_given_by_a_function() -> None:
    from gatekit import Cluster
    from gatekit.gateway.gateway import Gateway

    with pytest.raises(ValueError, match="a function that makes the context"):
        Cluster("https://127.0.0.1:1", tls_context=object())
    with pytest.raises(ConfigRefused):
        Gateway.from_config({"clusters": {"a": {"urls": ["https://127.0.0.1:1"], "tls_context": 1}}})
