"""Rate limits as a whole gateway has them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.policies.authn.jwt_scene import ISSUER, KEYS, NOW, made

from gatekit import Authn, Cluster, Gateway, RateLimit, Route, jwt
from gatekit.policies.authn import jose_keys
from gatekit.policies.rate_limit import LimitRule
from gatekit.testing import ManualClock, call, test_ports

TOKENS = jwt(issuer=ISSUER, audience="shop", jwks=KEYS)


async def backend(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-units", b"40")]})
    await send({"type": "http.response.body", "body": b"x" * 100})


def gateway(*policies: Any, **ports: Any) -> Gateway:
    return Gateway(
        policies=list(policies),
        routes=[Route("/*", to="app", name="all")],
        clusters={"app": Cluster(app=backend)},
        ports=test_ports(clock=ManualClock(wall=NOW), **ports),
    )


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every signature that was checked."""
    checked: list[bytes] = []
    make = jose_keys._verifier

    def counted(*given: Any) -> Any:
        verify = make(*given)

        def verifier(signed: bytes, signature: bytes) -> bool:
            checked.append(signature)
            return verify(signed, signature)

        return verifier

    monkeypatch.setattr(jose_keys, "_verifier", counted)
    return checked


async def test_rl11_a_flood_of_bad_tokens_is_limited_by_address_and_costs_no_signature(verified: list[bytes]) -> None:
    # Whatever order they are written in.
    shop = gateway(Authn(TOKENS), RateLimit("5/minute"))
    good = made().decode()
    bad = good[:-8] + ("AAAAAAAA" if not good.endswith("AAAAAAAA") else "BBBBBBBB")
    statuses = [(await call(shop, headers={"authorization": f"Bearer {bad}"})).status for _ in range(5)]
    assert statuses == [401] * 5
    assert len(verified) == 5
    for number in range(100):
        token = bad[:-12] + f"{number:04d}" + bad[-8:]
        answer = await call(shop, headers={"authorization": f"Bearer {token}"})
        assert (answer.status, answer.json()["code"]) == (429, "rate_limit.exceeded")
    assert len(verified) == 5
    # Somebody else is not concerned.
    other = await call(shop, headers={"authorization": f"Bearer {good}"}, client="198.51.100.7")
    assert other.status == 200
    await shop.aclose()


async def test_limits_by_identity_stand_behind_authentication_and_know_it() -> None:
    shop = gateway(RateLimit("2/minute", by="tenant", overrides={"user:ann": "3/minute"}), Authn(TOKENS))
    headers = {"authorization": f"Bearer {made().decode()}"}
    assert [(await call(shop, headers=headers)).status for _ in range(4)] == [200, 200, 200, 429]
    assert (await call(shop)).status == 401
    await shop.aclose()


async def test_rl9_what_an_app_sends_and_reports_is_charged() -> None:
    rules = [
        LimitRule("250/minute", name="bytes", charge="response_bytes"),
        LimitRule("1000/minute", name="units", charge="header:X-Units"),
        LimitRule("1 concurrent", name="open"),
    ]
    shop = gateway(RateLimit(rules=rules))
    answers = [await call(shop) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert [one.header("x-units") for one in answers] == [None] * 4
    left = [one.split(";")[1] for one in str(answers[2].header("ratelimit")).split(", ")]
    assert left == ["r=49", "r=919", "r=0"]
    await shop.aclose()


async def test_explain_and_status_of_a_gateway_have_what_a_limit_says() -> None:
    shop = gateway(RateLimit("5/minute"))
    await call(shop)
    assert "'allowed': 1" in str(shop.status())
    await shop.aclose()
