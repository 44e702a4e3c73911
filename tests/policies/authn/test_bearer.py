"""Tokens in a request: where they are found, what is refused before anybody reads it, and what is remembered."""

from __future__ import annotations

from collections.abc import Awaitable
from hashlib import sha256
from typing import Any

import pytest
from tests.core.certificates import made as certificate
from tests.policies.authn.jwt_scene import CLAIMS, ISSUER, KEYS, NOW, made

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.verdict import Reply
from gatekit.policies.authn import Authn, jwt
from gatekit.policies.authn.bearer import Bearer, Token, TokenPlace
from gatekit.policies.authn.jose import JwsRefused
from gatekit.policies.authn.method import Answer, Verified
from gatekit.testing import ManualClock, decide, request, test_ports
from gatekit.testing.policies import step

CALLER = Identity("ann", ISSUER, scheme="test")


class Takes:
    """A method that takes every token that begins like this, and counts what it was asked."""

    def __init__(self, start: bytes = b"", *, later: bool = False, **fields: Any) -> None:
        self.start = start
        self.later = later
        self.found: Answer = Verified(CALLER, [], until=fields.pop("until", NOW + 300.0), **fields)
        self.asked = 0

    def takes(self, token: Token) -> bool:
        return token.text.startswith(self.start)

    def verify(self, token: Token) -> Answer | Awaitable[Answer]:
        self.asked += 1
        return self._waited() if self.later else self.found

    async def _waited(self) -> Answer:
        return self.found


def bearer(
    *methods: Takes, clock: ManualClock | None = None, places: tuple[TokenPlace, ...] | None = None, **fields: Any
) -> Bearer:
    chosen = (TokenPlace(**fields),) if places is None else places
    return Bearer(chosen, methods, test_ports(clock=clock or ManualClock(wall=NOW)), "gateway")


def asked(method: Bearer, *headers: tuple[str, str], target: str = "/", exchange: Exchange | None = None) -> Any:
    found = method.identify(exchange or request("GET", target, headers=list(headers)))
    if found is None or isinstance(found, (Verified, Reply)):
        return found
    return step(found, "identify")  # type: ignore[arg-type]


def said(found: Any) -> str:
    return found.reason if isinstance(found, Reply) else "good" if isinstance(found, Verified) else "none"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "none"),
        ([("Authorization", "Bearer abc")], "good"),
        ([("authorization", "BEARER abc")], "good"),
        ([("Authorization", "bearer a.b-c_d~e+f/g==")], "good"),
        ([("Authorization", "Basic abc")], "none"),
        ([("Authorization", "Bearerabc")], "none"),
        ([("Authorization", "Bearer")], "authn.malformed_token"),
        ([("Authorization", "Bearer ")], "authn.malformed_token"),
        ([("Authorization", "Bearer  abc")], "authn.malformed_token"),
        ([("Authorization", "Bearer\tabc")], "none"),
        ([("Authorization", "Bearer abc def")], "authn.malformed_token"),
        ([("Authorization", "Bearer abc,Bearer def")], "authn.malformed_token"),
        ([("Authorization", "Bearer ab\u00e9")], "authn.malformed_token"),
        ([("Authorization", "Bearer =abc")], "authn.malformed_token"),
        ([("Authorization", 'Bearer "abc"')], "authn.malformed_token"),
        ([("Authorization", "Bearer abc"), ("Authorization", "Bearer abc")], "authn.ambiguous_token"),
        ([("Authorization", "Basic abc"), ("Authorization", "Bearer abc")], "authn.ambiguous_token"),
        ([("Authorization", "Bearer " + "a" * 8192)], "good"),
        ([("Authorization", "Bearer " + "a" * 8193)], "authn.token_too_long"),
    ],
)
def test_what_is_a_token_and_what_is_refused_unread(headers: list[tuple[str, str]], expected: str) -> None:
    method = Takes()
    found = asked(bearer(method), *headers)
    assert said(found) == expected
    assert method.asked == (expected == "good")


def test_a_refusal_names_the_error_and_no_token() -> None:
    gate = bearer()
    unknown = asked(gate, ("Authorization", "Bearer canary"))
    assert (unknown.status, unknown.reason) == (401, "authn.unknown_token")
    assert unknown.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"')]
    malformed = asked(gate, ("Authorization", "Bearer canary canary"))
    assert malformed.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_request"')]
    assert gate.missing.headers == [(b"www-authenticate", b'Bearer realm="gateway"')]
    for reply in (unknown, malformed):
        assert "canary" not in f"{reply.detail}{reply.headers}{reply.members}"


def test_the_first_that_takes_a_token_has_it() -> None:
    first, second = Takes(b"a"), Takes(b"")
    gate = bearer(first, second)
    asked(gate, ("Authorization", "Bearer abc"))
    asked(gate, ("Authorization", "Bearer xyz"))
    assert (first.asked, second.asked) == (1, 1)


@pytest.mark.parametrize("later", [False, True])
def test_an13_a_verified_token_is_believed_for_a_minute_and_no_longer(later: bool) -> None:
    clock = ManualClock(wall=NOW)
    method = Takes(later=later)
    gate = bearer(method, clock=clock)
    for seconds, times in ((0.0, 1), (59.9, 1), (0.2, 2)):
        clock.advance(seconds)
        assert said(asked(gate, ("Authorization", "Bearer abc"))) == "good"
        assert method.asked == times


def test_an13_nor_past_its_end_even_if_the_wall_clock_jumps() -> None:
    clock = ManualClock(wall=NOW)
    method = Takes(until=NOW + 10.0)
    gate = bearer(method, clock=clock)
    asked(gate, ("Authorization", "Bearer abc"))
    clock.advance(9.9)
    asked(gate, ("Authorization", "Bearer abc"))
    assert method.asked == 1
    clock.advance(0.1)
    asked(gate, ("Authorization", "Bearer abc"))
    assert method.asked == 2


def test_an13_the_cache_is_bounded_and_holds_digests_only() -> None:
    gate = bearer(Takes(), cache=100)
    for number in range(1000):
        asked(gate, ("Authorization", f"Bearer t{number}"))
    cache = gate._cache
    assert cache is not None
    assert 0 < len(cache) <= 100
    assert sha256(b"t999").digest() in cache._entries
    assert b"t999" not in cache._entries


def test_without_a_cache_every_request_is_verified() -> None:
    method = Takes()
    gate = bearer(method, cache=0)
    for _ in range(3):
        asked(gate, ("Authorization", "Bearer abc"))
    assert method.asked == 3


def test_what_was_refused_is_not_remembered() -> None:
    method = Takes()
    method.found = Reply(401, "authn.expired")
    gate = bearer(method)
    for later in (False, True):
        method.later = later
        assert said(asked(gate, ("Authorization", "Bearer abc"))) == "authn.expired"
    assert method.asked == 2


def test_a_header_of_its_own_holds_the_token_alone() -> None:
    gate = bearer(Takes(), header="X-Assertion", scheme=None)
    assert said(asked(gate, ("X-Assertion", "abc"))) == "good"
    assert said(asked(gate, ("Authorization", "Bearer abc"))) == "none"
    assert gate.stripped == {b"x-assertion"}


def test_a_token_in_the_query_only_where_it_is_asked_for() -> None:
    assert said(asked(bearer(Takes()), target="/?access_token=abc")) == "none"
    gate = bearer(Takes(), query="access_token")
    exchange = request("GET", "/?a=1&access%5Ftoken=abc&b=2")
    assert said(asked(gate, exchange=exchange)) == "good"
    gate.strip(exchange)
    assert exchange.target_query == b"a=1&b=2"
    assert said(asked(gate, ("Authorization", "Bearer abc"), target="/?access_token=abc")) == "authn.ambiguous_token"
    assert said(asked(gate, target="/?access_token=a&access_token=b")) == "authn.ambiguous_token"
    assert said(asked(gate, ("Authorization", "Bearer abc"), target="/?other=abc")) == "good"


def test_a_token_that_goes_on_is_left_where_it_is() -> None:
    gate = bearer(Takes(), query="t", forward=True)
    exchange = request("GET", "/?t=abc")
    gate.strip(exchange)
    assert exchange.target_query == b"t=abc"
    assert gate.stripped == frozenset()


def test_a_token_is_read_once_also_when_it_cannot_be() -> None:
    token = Token(made(), b"")
    assert token.jws is token.jws
    assert token.looks_like_jws
    broken = Token(b"eyJ.x.y", b"")
    errors = []
    for _ in range(2):
        with pytest.raises(JwsRefused) as raised:
            _ = broken.jws
        errors.append(raised.value)
    assert errors[0] is errors[1]


def test_a_bound_token_needs_its_certificate_on_every_request() -> None:
    theirs, other = certificate(dns=("ann.example",)), certificate(dns=("eve.example",))
    gate = bearer(Takes(certificate=theirs.digest))

    def over(pem: str | None) -> Exchange:
        exchange = request("GET", "/", headers={"Authorization": "Bearer abc"})
        if pem is not None:
            exchange.scope["extensions"] = {"tls": {"client_cert_chain": [pem], "client_cert_error": None}}
        return exchange

    for pem, expected in ((None, "authn.certificate_mismatch"), (other.pem, "authn.certificate_mismatch"),
                          (theirs.pem, "good"), (None, "authn.certificate_mismatch")):  # fmt: skip
        assert said(asked(gate, exchange=over(pem))) == expected


def test_several_issuers_side_by_side_each_with_its_own_audience() -> None:
    spec = Authn(
        jwt(issuer=ISSUER, audience="shop", jwks=KEYS),
        jwt(issuer="https://other.test", audience="billing", jwks=KEYS),
    )
    policy = spec.bind(clock=ManualClock(wall=NOW))

    def ask(**claims: Any) -> str:
        exchange = request("GET", "/", headers={"Authorization": "Bearer " + made(**claims).decode()})
        reply = decide(policy, exchange)
        assert (reply is None) == (exchange.identity is not None)
        return "good" if reply is None else reply.reason

    assert ask() == "good"
    assert ask(iss="https://other.test", aud="billing") == "good"
    assert ask(iss="https://other.test") == "authn.wrong_audience"
    assert ask(aud="billing") == "authn.wrong_audience"
    assert ask(iss="https://third.test") == "authn.unknown_token"
    assert CLAIMS["iss"] == ISSUER


def test_a_place_alone_is_no_method() -> None:
    with pytest.raises(NotImplementedError):
        TokenPlace().bind_tokens(test_ports(), "gateway", lambda who: [])


def test_an_empty_query_has_nothing_to_cut() -> None:
    gate, exchange = bearer(Takes(), query="t"), request("GET", "/")
    gate.strip(exchange)
    assert not exchange.rewritten


def test_methods_that_share_a_token_agree_whether_it_goes_on() -> None:
    with pytest.raises(ValueError, match="say forward for all"):
        bearer(Takes(), Takes(), places=(TokenPlace(forward=True), TokenPlace()))


def test_of_limits_that_differ_the_wider_length_and_the_smaller_memory_count() -> None:
    gate = bearer(Takes(), places=(TokenPlace(max_length=100, cache=0), TokenPlace(max_length=200, cache=50)))
    assert said(asked(gate, ("Authorization", "Bearer " + "a" * 200))) == "good"
    assert said(asked(gate, ("Authorization", "Bearer " + "a" * 201))) == "authn.token_too_long"
    assert gate._cache is None
