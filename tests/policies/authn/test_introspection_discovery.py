"""Where the introspection endpoint is, by the issuer's metadata."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.policies.authn.introspection_scene import GOOD, NOW, URL, Scene

from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.gateway.shared import Shared
from gatekit.policies.authn.introspector import REREAD, REREAD_SOON
from gatekit.policies.authn.method import Verified
from gatekit.testing import FakeFetch, ManualClock, request, test_ports
from gatekit.testing.policies import step

ISSUER = "https://as.example/tenant"
OIDC = "https://as.example/tenant/.well-known/openid-configuration"
OAUTH = "https://as.example/.well-known/oauth-authorization-server/tenant"
METADATA = {"issuer": ISSUER, "introspection_endpoint": URL}
ANSWER = {**GOOD, "iss": ISSUER}


def scene(fetch: FakeFetch, **fields: Any) -> Scene:
    return Scene(fetch=fetch, **{"url": None, "issuer": ISSUER, **fields})


def test_the_metadata_are_read_once_and_the_endpoint_they_name_is_asked() -> None:
    fetch = FakeFetch().answer(OIDC, json=METADATA).answer(URL, json=ANSWER)
    found = scene(fetch)
    assert found.reason("a") is None
    assert found.reason("b") is None
    assert [(call.method, call.url) for call in fetch.calls] == [("GET", OIDC), ("POST", URL), ("POST", URL)]
    assert "authorization" not in dict(fetch.calls[0].headers), "our credentials are for the endpoint alone"
    (status,) = found.method.status().values()
    assert status["endpoint"] == URL


@pytest.mark.parametrize(
    "first",
    [
        {"status": 404},
        {"status": 503},
        {"json": {"issuer": ISSUER}},
        {"json": {**METADATA, "introspection_endpoint": None}},
    ],
)
def test_where_openid_has_none_rfc_8414_may(first: dict[str, Any]) -> None:
    fetch = FakeFetch().answer(OIDC, **first).answer(OAUTH, json=METADATA).answer(URL, json=ANSWER)
    assert scene(fetch).reason() is None
    assert [call.url for call in fetch.calls] == [OIDC, OAUTH, URL]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"error": StoreUnavailable("as.example is not there")}, "as.example is not there"),
        ({"status": 404}, "no metadata of the issuer name an introspection_endpoint"),
        ({"json": {"issuer": ISSUER}}, "no metadata of the issuer name an introspection_endpoint"),
        ({"json": {**METADATA, "issuer": ISSUER + "/"}}, "not those of the issuer"),
        ({"json": {"introspection_endpoint": URL}}, "not those of the issuer"),
        ({"body": b"<html>"}, "not those of the issuer"),
        ({"json": [METADATA]}, "not those of the issuer"),
        ({"json": {**METADATA, "introspection_endpoint": 7}}, "no URL that may be used"),
        ({"json": {**METADATA, "introspection_endpoint": "/introspect"}}, "no URL that may be used"),
        ({"json": {**METADATA, "introspection_endpoint": "http://as.example/introspect"}}, "no URL that may be used"),
        ({"json": {**METADATA, "introspection_endpoint": "https://u:p@as.example/"}}, "no URL that may be used"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_metadata_that_name_no_endpoint_leave_the_token_unknown(answer: dict[str, Any], why: str) -> None:
    fetch = FakeFetch().answer(OIDC, **answer).answer(OAUTH, **answer)
    # Also where http is allowed: what came over https must not lead to where anybody can listen.
    found = scene(fetch, networks=["10.0.0.0/8"])
    assert found.reason() == "authn.introspection_unavailable"
    assert why in found.line.last_error
    assert found.line.in_row == 1
    assert not any(call.method == "POST" for call in fetch.calls)


def test_in_a_private_network_all_of_it_may_be_http() -> None:
    issuer, url = "http://10.0.0.7", "http://10.0.0.7:8080/introspect"
    fetch = FakeFetch().answer(
        f"{issuer}/.well-known/openid-configuration", json={"issuer": issuer, "introspection_endpoint": url}
    )
    fetch.answer(url, json={**GOOD, "iss": issuer})
    assert scene(fetch, issuer=issuer, networks=["10.0.0.0/8"]).reason() is None


def test_the_metadata_are_read_again_every_hour_and_what_was_known_stays_while_they_cannot_be() -> None:
    moved = "https://as.example/v2/introspect"
    fetch = FakeFetch().answer(OIDC, json=METADATA).answer(URL, json=ANSWER).answer(moved, json=ANSWER)
    found = scene(fetch)
    (job,) = found.method.jobs()
    assert job.interval() == REREAD_SOON
    step(job.run(), "job")  # type: ignore[arg-type]
    assert job.interval() == REREAD == 3600
    assert found.reason("a") is None
    fetch.answer(OIDC, error=StoreUnavailable("away")).answer(OIDC, json={**METADATA, "introspection_endpoint": moved})
    fetch._answers[OIDC].popleft()
    step(job.run(), "job")  # type: ignore[arg-type]
    assert found.line.last_error == "away"
    assert found.reason("b") is None
    step(job.run(), "job")  # type: ignore[arg-type]
    assert found.reason("c") is None
    assert [call.url for call in fetch.calls if call.method == "POST"] == [URL, URL, moved]


def test_a_url_that_was_given_is_not_looked_for() -> None:
    assert Scene(issuer=ISSUER).method.jobs() == []


async def test_a_cold_start_under_load_reads_the_metadata_once() -> None:
    asked: list[str] = []

    async def fetch(method: str, url: str, **_: Any) -> Fetched:
        asked.append(url)
        return Fetched(200, {}, json.dumps(METADATA if method == "GET" else ANSWER).encode())

    ports = test_ports(clock=ManualClock(wall=NOW), fetch=fetch, once=Shared())
    found = Scene(ports=ports, url=None, issuer=ISSUER)
    requests = [request("GET", "/", headers={"Authorization": f"Bearer t{number}"}) for number in range(40)]
    waiting: list[Any] = [found.bearer.identify(one) for one in requests]
    assert all(isinstance(one, Verified) for one in await asyncio.gather(*waiting))
    assert asked.count(OIDC) == 1
    assert asked.count(URL) == 40
