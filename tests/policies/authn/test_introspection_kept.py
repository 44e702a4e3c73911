"""Introspection over time: for how long an answer is believed, what is shared, what is asked about, what is shown."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tests.policies.authn.introspection_scene import GOOD, NOW, URL, Scene

from gatekit.core.exchange import Exchange
from gatekit.core.ports import Fetched
from gatekit.core.verdict import Reply, render
from gatekit.policies.authn.bearer import Bearer, Token
from gatekit.testing import request

# -- for how long


@pytest.mark.parametrize(("left", "kept"), [(3600, 30), (30, 30), (12, 12), (0.5, 0.5)])
def test_an8_a_good_token_is_believed_for_30_seconds_or_until_it_expires(left: float, kept: float) -> None:
    scene = Scene().answers({**GOOD, "exp": NOW + left})
    assert scene.reason() is None
    scene.clock.advance(kept - 0.25)
    assert scene.reason() is None
    assert scene.calls == 1
    scene.clock.advance(0.5)
    assert scene.reason() == (None if left > kept else "authn.expired")
    assert scene.calls == 2


def test_an8_exp_is_looked_at_again_on_each_hit() -> None:
    scene = Scene().answers({**GOOD, "exp": NOW + 20})
    assert scene.reason() is None
    # Its time by the cache's clock is not over; by the wall clock, which an operator put right, the token is.
    scene.clock.set_wall(NOW + 21)
    assert scene.reason() == "authn.expired"


def test_how_long_it_is_believed_can_be_set() -> None:
    scene = Scene(max_ttl=5, negative_ttl=0).answers(GOOD)
    scene.identity()
    scene.clock.advance(5.1)
    scene.identity()
    assert scene.calls == 2
    never = Scene(max_ttl=0, negative_ttl=0).answers(GOOD, GOOD, {"active": False})
    assert [never.reason() for _ in range(4)] == [None, None, "authn.inactive_token", "authn.inactive_token"]
    assert never.calls == 4


def test_an8_a_refused_token_is_refused_for_10_seconds_without_asking() -> None:
    scene = Scene().answers({"active": False}, GOOD)
    assert scene.reason() == "authn.inactive_token"
    scene.clock.advance(9.9)
    assert scene.reason() == "authn.inactive_token"
    assert scene.calls == 1
    scene.clock.advance(0.2)
    assert scene.reason() is None
    assert scene.calls == 2


def test_an8_refused_tokens_are_kept_apart_bounded_and_by_digest_alone() -> None:
    scene = Scene(max_ttl=60)
    scene.fetch.answer(URL, json=GOOD).answer(URL, json={"active": False})
    scene.identity("the-good-one")
    for number in range(12_000):
        assert scene.reason(f"MARKER-{number}") == "authn.inactive_token"
    assert len(scene.line.refused) <= 10_000
    calls = scene.calls
    scene.identity("the-good-one")
    assert scene.calls == calls, "a flood of bad ones takes no good one's place"
    kept = {*scene.line.refused._entries}
    assert all(isinstance(key, bytes) and len(key) == 32 for key in kept)
    assert sha256(b"MARKER-11999").digest() in kept
    good = scene.bearer._cache
    assert good is not None
    assert set(good._entries) == {sha256(b"the-good-one").digest()}


def test_routes_with_different_audiences_share_what_the_server_said_and_not_what_it_meant_to_one() -> None:
    first = Scene().answers({**GOOD, "aud": "other"})
    second = Scene(ports=first.ports, fetch=first.fetch, audience="other")
    assert second.line is first.line
    assert first.reason() == "authn.wrong_audience"
    assert second.reason() is None
    assert first.reason() == "authn.wrong_audience"
    assert first.calls == 2, "each asked once, and the second answer did not make the first one good"
    other = Scene().answers({"active": False})
    another = Scene(ports=other.ports, fetch=other.fetch, audience="other")
    assert [other.reason(), another.reason()] == ["authn.inactive_token"] * 2
    assert other.calls == 1, "what the server itself says no to is nobody's"


def test_what_is_known_of_a_server_outlives_a_reload() -> None:
    scene = Scene().answers({"active": False})
    scene.reason()
    later = Scene(ports=scene.ports.afresh().owned_by("route:new"), fetch=scene.fetch, negative_ttl=20)
    assert later.reason() == "authn.inactive_token"
    assert scene.calls == 1
    other = Scene(ports=scene.ports, fetch=scene.fetch, client_id="another")
    assert other.line is not scene.line


# -- which tokens


def token(text: bytes) -> Token:
    return Token(text, sha256(text).digest())


JWS = base64.urlsafe_b64encode(b'{"alg":"RS256"}').rstrip(b"=") + b".e30.c2ln"


@pytest.mark.parametrize(("text", "jws"), [(b"opaque", False), (b"a.b.c", False), (JWS, True), (JWS + b".x.y", False)])
def test_it_takes_every_token_or_those_alone_that_are_no_jwt(text: bytes, jws: bool) -> None:
    assert Scene().method.takes(token(text))
    assert Scene(jws=False).method.takes(token(text)) is not jws


def test_a_jwt_that_is_not_taken_is_nobodys() -> None:
    assert Scene(jws=False).reason(JWS.decode()) == "authn.unknown_token"


def test_it_is_asked_about_what_no_method_before_it_takes() -> None:
    scene = Scene().answers({"active": False})

    class Before:
        def takes(self, token: Token) -> bool:
            return token.looks_like_jws

        def verify(self, token: Token) -> Reply:
            return Reply(401, "authn.bad_signature")

    scene.bearer = Bearer([scene.spec, scene.spec], [Before(), scene.method], scene.ports, "gateway")
    assert scene.reason(JWS.decode()) == "authn.bad_signature", "what an earlier method refuses stays refused"
    assert scene.calls == 0
    assert scene.reason("opaque") == "authn.inactive_token"


# -- nothing is shown


@pytest.mark.parametrize("how", [
    {"json": {**GOOD, "aud": "MARKER-aud", "sub": "MARKER-sub"}},
    {"json": {"active": False, "sub": "MARKER-sub"}},
    {"status": 401, "json": {"error": "MARKER-error", "error_description": "MARKER-text"}},
    {"status": 400, "body": b"MARKER-body"},
    {"status": 500, "body": b"MARKER-body"},
    {"body": b"MARKER-body"},
    {"json": {**GOOD, "exp": "MARKER-exp"}},
])  # fmt: skip
def test_an12_no_token_secret_or_claim_is_in_a_reply_log_or_status(
    how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    scene = Scene()
    scene.fetch.answer(URL, **how)
    exchange: Exchange = request("GET", "/")
    for _ in range(2):
        reply = scene.ask()
        assert isinstance(reply, Reply)
        head, body = render(reply, exchange)
        assert "MARKER" not in body.decode() + repr(head.raw) + repr(reply)
    assert "MARKER" not in caplog.text
    shown = (scene.method.status(), scene.spec, scene.method, scene.bearer, scene.line, scene.line.refused)
    assert "MARKER" not in repr(shown)


def test_an_unexpected_fault_of_the_fetch_gives_its_place_back_and_shows_nothing() -> None:
    class Broken:
        async def __call__(self, *_: Any, **__: Any) -> Fetched:
            raise RuntimeError("a bug")

    scene = Scene(fetch=Broken())
    with pytest.raises(RuntimeError, match="a bug"):
        scene.ask()
    assert scene.line.calls == 0
    assert not scene.line.tokens
    assert scene.line.in_row == 0


# -- private_key_jwt, with a server that takes each assertion once


class OnceOnly:
    """A server that refuses an assertion it has seen, as RFC 7523 section 3 lets it."""

    def __init__(self, status: int = 401) -> None:
        self.seen: list[str] = []
        self.statuses: list[int] = []
        self._status = status

    async def __call__(self, method: str, url: str, *, body: bytes | None = None, **_: Any) -> Fetched:
        assertion = dict(parse_qsl((body or b"").decode()))["client_assertion"]
        again = assertion in self.seen
        self.seen.append(assertion)
        self.statuses.append(self._status if again else 200)
        return Fetched(
            self.statuses[-1], {}, b'{"error": "unauthorized_client"}' if again else json.dumps(GOOD).encode()
        )


@pytest.fixture(scope="module")
def key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_server_that_takes_an_assertion_once_is_found_out_with_the_second(key: str, status: int) -> None:
    server = OnceOnly(status)
    scene = Scene(fetch=server, client_auth="private_key_jwt", client_secret=None, assertion_key=key)
    for number in range(4):
        assert scene.reason(f"t{number}") is None
    assert server.statuses == [200, status, 200, 200, 200], "one refusal, and from then on a new one each time"
    assert scene.line.in_row == 0


def test_a_server_that_refuses_a_new_assertion_too_refuses_the_client(key: str) -> None:
    scene = Scene(client_auth="private_key_jwt", client_secret=None, assertion_key=key).answers(GOOD)
    scene.fetch.answer(URL, status=401)
    scene.identity("t1")
    assert scene.reason("t2") == "authn.introspection_unavailable"
    assert scene.calls == 3
    assert scene.line.in_row == 1
    assert not scene.method._asker._auth._once  # type: ignore[attr-defined]
