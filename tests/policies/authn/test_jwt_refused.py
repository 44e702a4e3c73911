"""JWT verification: which tokens are not good, and what is answered to them."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from tests.policies.authn.jose_vectors import encode
from tests.policies.authn.jwt_scene import NOW, answer, bound, made, parsed, reason

from gatekit.core.verdict import Reply
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock

# Tokens that are not good.


@pytest.mark.parametrize(
    ("claim", "value", "expected"),
    [
        ("exp", NOW - 59, None),
        ("exp", NOW - 59.999, None),
        ("exp", NOW - 60, "authn.expired"),
        ("exp", NOW - 61, "authn.expired"),
        ("exp", 0, "authn.expired"),
        ("nbf", NOW + 59, None),
        ("nbf", NOW + 60, None),
        ("nbf", NOW + 61, "authn.not_yet_valid"),
        ("iat", NOW + 59, None),
        ("iat", NOW + 61, "authn.not_yet_valid"),
        ("nbf", 0, None),
        ("iat", 0, None),
    ],
)
def test_an4_dates_are_taken_with_a_minute_of_leeway(claim: str, value: Any, expected: str | None) -> None:
    assert reason(bound(), made(**{claim: value})) == expected


@pytest.mark.parametrize(("leeway", "late"), [(0, 0), (300, 300), (1.5, 1)])
def test_an4_leeway_counts_as_it_is_set(leeway: float, late: int) -> None:
    method = bound(leeway=leeway)
    assert reason(method, made(exp=NOW - late)) == (None if late < leeway else "authn.expired")
    assert reason(method, made(nbf=NOW + late)) is None
    assert reason(method, made(nbf=NOW + late + 1)) == "authn.not_yet_valid"


def test_an4_a_token_is_good_until_its_end_and_the_leeway_by_the_wall_clock() -> None:
    clock = ManualClock()
    method, text = bound(clock), made(nbf=NOW + 120, exp=NOW + 300)
    for passed, expected in ((0, "authn.not_yet_valid"), (59, "authn.not_yet_valid"), (60, None), (359, None), (360, "authn.expired")):  # fmt: skip
        clock.set_wall(NOW + passed)
        assert reason(method, text) == expected
    found = bound(leeway=10).verify(parsed(made()))
    assert isinstance(found, Verified)
    assert found.until == NOW + 310


BROKEN_DATES: list[Any] = [True, "1700000300", [1], {}, -1, -0.5, 253_402_300_800, (NOW + 300) * 1000, 10**39, 1e300]


@pytest.mark.parametrize("value", BROKEN_DATES, ids=repr)
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_a_date_that_is_none_is_refused(claim: str, value: Any) -> None:
    assert reason(bound(), made(**{claim: value})) == "authn.malformed_claim"


def test_a_token_without_an_end_is_refused() -> None:
    assert reason(bound(), made(exp=...)) == "authn.missing_claim"
    assert reason(bound(), made(exp=None)) == "authn.missing_claim"
    assert reason(bound(), made(nbf=None, iat=None)) is None


def test_a_lifetime_may_be_bounded() -> None:
    method = bound(max_lifetime=600)
    assert reason(method, made(iat=NOW - 300, exp=NOW + 300)) is None
    assert reason(method, made(iat=NOW - 300, exp=NOW + 301)) == "authn.lifetime_too_long"
    assert reason(method, made()) == "authn.missing_claim"
    assert reason(bound(), made(iat=1, exp=NOW + 10**9)) is None


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("shop", True), (["shop"], True), (["other", "shop"], True), ("stock", True), ("Shop", False), ("shop ", False), ("shop,other", False),
        ([], False), (["other"], False), ([["shop"]], False), ([{"shop": 1}, None, 5], False), ({"shop": 1}, False), (None, False), (..., False),
        ("", False), (True, False), (5, False),
    ],
    ids=repr,
)  # fmt: skip
def test_a_token_is_meant_for_one_of_the_audiences(value: Any, good: bool) -> None:
    method = bound(audience=["shop", "stock"])
    assert reason(method, made(aud=value)) == (None if good else "authn.wrong_audience")


def test_a_client_may_have_to_be_one_of_a_few() -> None:
    method = bound(clients=["web", "app"])
    assert reason(method, made(azp="web")) is None
    assert reason(method, made(client_id="app")) is None
    assert reason(method, made(client_id="evil", azp="web")) == "authn.wrong_client"
    assert reason(method, made(azp="evil")) == "authn.wrong_client"
    assert reason(method, made()) == "authn.wrong_client"
    assert reason(bound(clients=["x"], claims={"client": "cid"}), made(cid="x", azp="evil")) is None


def test_further_claims_may_have_to_be_there() -> None:
    method = bound(required_claims=["jti", "org.id"])
    assert reason(method, made(jti="1", org={"id": 5})) is None
    assert reason(method, made(jti="1")) == "authn.missing_claim"
    assert reason(method, made(jti="1", org={"id": None})) == "authn.missing_claim"
    assert reason(method, made(org={"id": 5})) == "authn.missing_claim"


def test_claims_of_the_wrong_form_are_refused_and_a_subject_is_there() -> None:
    assert reason(bound(), made(sub=...)) == "authn.missing_claim"
    assert reason(bound(), made(sub="a\r\nx-admin: 1")) == "authn.malformed_claim"
    assert reason(bound(), made(roles={"admin": 1})) == "authn.malformed_claim"
    assert reason(bound(), made(jti=7)) == "authn.malformed_claim"


# Which kind of token.


@pytest.mark.parametrize(
    ("typ", "good"),
    [
        (..., True), ("JWT", True), ("jwt", True), ("application/jwt", True), ("at+jwt", True), ("AT+JWT", True), ("application/at+jwt", True),
        ("Application/At+Jwt", True), ("id_token+jwt", False), ("dpop+jwt", False), ("logout+jwt", False), ("secevent+jwt", False), ("JWE", False),
        ("", False), ("none", False), ("at+jwt ", False), ("text/at+jwt", False), ("refresh", False),
    ],
    ids=repr,
)  # fmt: skip
def test_only_types_that_were_named_are_taken(typ: Any, good: bool) -> None:
    assert reason(bound(), made(header={"typ": typ})) == (None if good else "authn.wrong_type")


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"typ": "Bearer"}, True), ({"typ": "ID"}, False), ({"typ": "Refresh"}, False), ({"typ": "Offline"}, False), ({"typ": "Logout"}, False),
        ({"token_use": "access"}, True), ({"token_use": "id"}, False), ({"token_use": "refresh"}, False),
        ({"token_type": "access"}, True), ({"token_type": "refresh"}, False), ({"type": "refresh"}, False), ({"type": "access"}, True), ({"type": 5}, True),
        ({"at_hash": "x"}, False), ({"c_hash": "x"}, False), ({"nonce": "n", "at_hash": "x"}, False), ({"nonce": "n"}, True),
        ({"nonce": "n", "scope": ...}, False), ({"nonce": "n", "scope": ..., "scp": ["a"]}, True), ({"scope": ...}, True),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, False), ({"events": 5}, True),
    ],
    ids=str,
)  # fmt: skip
def test_what_shows_itself_to_be_no_access_token_is_refused(claims: dict[str, Any], good: bool) -> None:
    assert reason(bound(), made(**claims)) == (None if good else "authn.wrong_type")
    typed = made(header={"typ": "at+jwt"}, **claims)
    assert reason(bound(), typed) is None


PROFILE: dict[str, Any] = {"iat": NOW, "jti": "1", "client_id": "web"}


def test_rfc_9068_to_the_letter() -> None:
    method = bound(types="at+jwt")
    good = {"header": {"typ": "at+jwt"}, **PROFILE}
    assert reason(method, made(**good)) is None
    assert reason(method, made(**{**good, "header": {"typ": "application/at+jwt"}})) is None
    for name in ("iat", "jti", "client_id", "sub"):
        assert reason(method, made(**{**good, name: ...})) == "authn.missing_claim"
    for typ in ("JWT", ...):
        assert reason(method, made(**{**good, "header": {"typ": typ}})) == "authn.wrong_type"
    assert reason(bound(types=["application/at+jwt"]), made(**{**good, "jti": ...})) == "authn.missing_claim"
    assert reason(bound(types=["at+jwt", "JWT"]), made(header={"typ": "at+jwt"})) is None


# Tokens that are bound to their holder.

THUMBPRINT = encode(sha256(b"certificate").digest()).decode()


def test_a_token_of_a_certificate_says_which() -> None:
    found = answer(bound(), made(cnf={"x5t#S256": THUMBPRINT}))
    assert isinstance(found, Verified)
    assert found.certificate == sha256(b"certificate").digest()


@pytest.mark.parametrize(
    "cnf",
    [
        {"jkt": "x"}, {"jwk": {}}, {"kid": "k"}, {"x5t#S256": THUMBPRINT, "jkt": "x"}, {}, None, "x5t#S256", [],
        {"x5t#S256": THUMBPRINT + "="}, {"x5t#S256": THUMBPRINT[:-1]}, {"x5t#S256": ""}, {"x5t#S256": "AAAA"},
        {"x5t#S256": 5}, {"x5t#S256": None}, {"x5t#S256": "\u00e9" * 43},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_that_is_bound_in_another_way_is_none_to_its_bearer(cnf: Any) -> None:
    assert reason(bound(), made(cnf=cnf)) == "authn.unsupported_confirmation"


def test_the_header_that_carries_it_is_what_the_challenge_names() -> None:
    reply = answer(bound(scheme="Token"), made(exp=1))
    assert isinstance(reply, Reply)
    assert reply.headers == [(b"www-authenticate", b'Token realm="gateway", error="invalid_token"')]
    reply = answer(bound(scheme=None, header="x-token"), made(exp=1))
    assert isinstance(reply, Reply)
    assert reply.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"')]
