"""Introspection: which answers let somebody in and as whom, and what is refused and how."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.introspection_scene import GOOD, NOW, SECRET, URL, Scene

from gatekit.core.identity import Identity
from gatekit.core.ports import Reach
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.bearer import Token
from gatekit.policies.authn.introspection_bound import REFUSALS
from gatekit.policies.authn.method import Verified
from gatekit.testing.policies import step

# -- who is let in


def test_a_token_that_its_server_calls_active_gives_its_identity() -> None:
    scene = Scene().answers(GOOD)
    found = scene.ask()
    assert isinstance(found, Verified)
    assert found.identity == Identity(
        "ann", issuer="https://as.example", client="app", scopes=frozenset("ab"), claims=GOOD, scheme="introspection",
        expires=NOW + 3600,
    )  # fmt: skip
    assert dict(found.marks) == {
        "jti": "j1", "sub": "ann", "iss": "https://as.example", "client_id": "app", "iat": NOW - 5,
    }  # fmt: skip
    assert found.certificate is None


def test_the_call_is_that_of_rfc_7662() -> None:
    scene = Scene(networks=["10.0.0.0/8"], ca="/ca.pem", timeout=1.5).answers(GOOD)
    scene.identity("a+b/c~d==")
    (call,) = scene.fetch.calls
    assert (call.method, call.url, call.timeout, call.reach) == ("POST", URL, 1.5, Reach(("10.0.0.0/8",), "/ca.pem"))
    assert dict(call.headers) == {
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
        "authorization": "Basic " + base64.b64encode(f"gw:{SECRET}".encode()).decode(),
    }
    assert parse_qsl(call.body.decode(), strict_parsing=True) == [
        ("token", "a+b/c~d=="), ("token_type_hint", "access_token"),
    ]  # fmt: skip


def test_the_secret_may_go_in_the_form_and_the_hint_be_left_out() -> None:
    scene = Scene(client_auth="post", token_type_hint=None).answers(GOOD)
    scene.identity("abc")
    (call,) = scene.fetch.calls
    assert "authorization" not in dict(call.headers)
    assert parse_qsl(call.body.decode()) == [("token", "abc"), ("client_id", "gw"), ("client_secret", SECRET)]


@pytest.mark.parametrize(
    ("fields", "answer", "identity"),
    [
        ({}, {"sub": None}, {"subject": "app", "client": "app"}),
        ({"claims": {"subject": "username"}}, {"username": "ann@x"}, {"subject": "ann@x"}),
        ({"claims": {"tenant": ["org.id"], "roles": ["groups"]}}, {"org": {"id": "t"}, "groups": ["r"]},
         {"tenant": "t", "roles": frozenset("r")}),
        ({}, {"iss": None}, {"issuer": URL}),
        ({"url": URL + "?key=x"}, {"iss": ""}, {"issuer": URL}),
        ({}, {"exp": None}, {"expires": None}),
        ({"issuer": "https://as.example"}, {}, {"issuer": "https://as.example"}),
        ({"audience": ["x", "shop"]}, {"aud": ["y", "shop"]}, {}),
        ({"audience": (), "unchecked_audience": True}, {"aud": None}, {}),
        ({"audience": (), "unchecked_audience": True}, {"aud": "other"}, {}),
        ({}, {"nbf": NOW + 60, "iat": NOW + 60}, {}),
        ({}, {"token_type": "bearer"}, {}),
        ({}, {"token_type": None, "token_use": "access_token", "typ": "Bearer"}, {}),
        ({}, {"exp": NOW + 0.5}, {"expires": NOW + 0.5}),
        ({}, {"cnf": None}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_answers_that_let_somebody_in(fields: dict[str, Any], answer: dict[str, Any], identity: dict[str, Any]) -> None:
    scene = Scene(**fields)
    scene.fetch.answer(scene.spec.url, json={**GOOD, **answer})
    found = scene.identity()
    assert {name: getattr(found, name) for name in identity} == identity


def test_a_token_that_is_bound_to_a_certificate_says_to_which() -> None:
    digest = sha256(b"certificate").digest()
    thumb = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    scene = Scene().answers({**GOOD, "cnf": {"x5t#S256": thumb}})
    pending: Any = scene.method.verify(Token(b"t", b"d" * 32))
    found = step(pending, "verify")
    assert isinstance(found, Verified)
    assert found.certificate == digest
    assert scene.reason() == "authn.certificate_mismatch", "nobody came with that certificate"


# -- who is not


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False}, "authn.inactive_token"),
        ({"active": False, "exp": "nonsense", "sub": 7}, "authn.inactive_token"),
        ({**GOOD, "exp": NOW}, "authn.expired"),
        ({**GOOD, "exp": 0}, "authn.expired"),
        ({**GOOD, "nbf": NOW + 61}, "authn.not_yet_valid"),
        ({**GOOD, "iat": NOW + 61}, "authn.not_yet_valid"),
        ({**GOOD, "iss": "https://as.example/"}, "authn.wrong_issuer"),
        ({**GOOD, "iss": None}, "authn.wrong_issuer"),
        ({**GOOD, "aud": "shops"}, "authn.wrong_audience"),
        ({**GOOD, "aud": []}, "authn.wrong_audience"),
        ({**GOOD, "aud": None}, "authn.wrong_audience"),
        ({**GOOD, "aud": ["a", "b"]}, "authn.wrong_audience"),
        ({**GOOD, "token_type": "refresh_token"}, "authn.wrong_type"),
        ({**GOOD, "token_type": "N_A"}, "authn.wrong_type"),
        ({**GOOD, "token_type": "DPoP"}, "authn.wrong_type"),
        ({**GOOD, "token_type": ""}, "authn.wrong_type"),
        ({**GOOD, "token_use": "refresh_token"}, "authn.wrong_type"),
        ({**GOOD, "typ": "ID"}, "authn.wrong_type"),
        ({**GOOD, "typ": "Offline"}, "authn.wrong_type"),
        ({**GOOD, "cnf": {"jkt": "abc"}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": "A" * 43, "jkt": "abc"}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": "A" * 42}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": "A" * 22}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": "A" * 42 + "B"}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": "ä" * 43}}, "authn.unsupported_confirmation"),
        ({**GOOD, "cnf": {"x5t#S256": 7}}, "authn.unsupported_confirmation"),
        ({**GOOD, "sub": None, "client_id": None}, "authn.missing_claim"),
        ({**GOOD, "sub": ""}, "authn.malformed_claim"),
        ({**GOOD, "roles": 7}, "authn.malformed_claim"),
        ({**GOOD, "sid": 7}, "authn.malformed_claim"),
    ],
    ids=str,
)
def test_tokens_that_are_refused_with_401(answer: dict[str, Any], reason: str) -> None:
    scene = Scene(issuer="https://as.example").answers(answer)
    found = scene.ask()
    assert isinstance(found, Reply)
    assert (found.status, found.reason) == (401, reason)
    assert found.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"')]
    assert reason in REFUSALS
    assert scene.reason() == reason
    assert scene.calls == 1, "asked once: what is refused is remembered"


def test_every_reason_of_a_401_is_one_that_is_tested() -> None:
    cases = test_tokens_that_are_refused_with_401.pytestmark[0].args[1]
    assert {reason for _, reason in cases} == set(REFUSALS)


@pytest.mark.parametrize("at", [59, 60, 61])
@pytest.mark.parametrize("member", ["nbf", "iat"])
def test_an4_leeway_is_60_seconds_for_what_begins_and_none_for_what_ends(member: str, at: int) -> None:
    assert Scene().answers({**GOOD, member: NOW + at}).reason() == ("authn.not_yet_valid" if at > 60 else None)
    assert Scene(leeway=0).answers({**GOOD, member: NOW + at}).reason() == "authn.not_yet_valid"
    assert Scene().answers({**GOOD, "exp": NOW - 1}).reason() == "authn.expired"


@contextmanager
def unavailable_when(scene: Scene) -> Iterator[None]:
    """What every answer that is none must lead to: 503 with Retry-After, never 401, never a pass, nothing kept."""
    found = scene.ask()
    assert isinstance(found, Reply)
    assert (found.status, found.reason) == (503, "authn.introspection_unavailable")
    assert found.headers == [(b"retry-after", b"1")]
    assert len(scene.line.refused) == 0
    yield
    assert scene.reason() == "authn.introspection_unavailable"
    assert scene.calls == 2, "what is not known is asked about again"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"error": StoreUnavailable("https://as.example: no answer within 2.0 s")}, "no answer within 2.0 s"),
        ({"error": StoreUnavailable("a\r\nforged line \x1b[31m")}, "a forged line  [31m"),
        ({"status": 500, "json": GOOD}, "it answered 500"),
        ({"status": 503, "json": {"active": False}}, "it answered 503"),
        ({"status": 401, "json": {"error": "invalid_client"}}, "refuses this gateway's own credentials"),
        ({"status": 403}, "refuses this gateway's own credentials"),
        ({"status": 400, "json": {"error": "invalid_client"}}, "refuses this gateway's own credentials"),
        ({"status": 400, "json": {"error": ["invalid_client"]}}, "it answered 400"),
        ({"status": 400, "body": b"\xff"}, "it answered 400"),
        ({"status": 404}, "it answered 404"),
        ({"status": 302, "headers": {"location": "https://elsewhere.example/"}}, "it answered 302"),
        ({"status": 201, "json": GOOD}, "it answered 201"),
        ({"status": 204}, "it answered 204"),
        ({"body": b""}, "no JSON object that says"),
        ({"body": b"<html>"}, "no JSON object that says"),
        ({"body": b'{"active": true'}, "no JSON object that says"),
        ({"body": b'{"active": true, "active": true, "sub": "a", "aud": "shop"}'}, "no JSON object that says"),
        ({"body": b'{"active": true, "exp": NaN, "sub": "a", "aud": "shop"}'}, "no JSON object that says"),
        ({"body": b'{"active": true, "x": ' + b"[" * 100_000}, "no JSON object that says"),
        ({"json": [GOOD]}, "no JSON object that says"),
        ({"json": {"sub": "ann", "aud": "shop"}}, "no JSON object that says"),
        ({"json": {**GOOD, "active": "true"}}, "no JSON object that says"),
        ({"json": {**GOOD, "active": 1}}, "no JSON object that says"),
        ({"json": {**GOOD, "active": None}}, "no JSON object that says"),
        ({"json": GOOD, "headers": {"content-type": "application/token-introspection+jwt"}}, "RFC 9701"),
        ({"json": {**GOOD, "exp": str(NOW + 9)}}, "a member exp of the wrong form"),
        ({"json": {**GOOD, "exp": (NOW + 9) * 1000}}, "a member exp of the wrong form"),
        ({"json": {**GOOD, "exp": True}}, "a member exp of the wrong form"),
        ({"json": {**GOOD, "nbf": -1}}, "a member nbf of the wrong form"),
        ({"json": {**GOOD, "iat": [1]}}, "a member iat of the wrong form"),
        ({"json": {**GOOD, "aud": {"shop": 1}}}, "a member aud of the wrong form"),
        ({"json": {**GOOD, "aud": ["shop", 1]}}, "a member aud of the wrong form"),
        ({"json": {**GOOD, "iss": "a\r\nb"}}, "a member iss of the wrong form"),
        ({"json": {**GOOD, "sub": 7}}, "a member sub of the wrong form"),
        ({"json": {**GOOD, "client_id": []}}, "a member client_id of the wrong form"),
        ({"json": {**GOOD, "token_type": 1}}, "a member token_type of the wrong form"),
        ({"json": {**GOOD, "jti": 1}}, "a member jti of the wrong form"),
        ({"json": {**GOOD, "cnf": "jkt"}}, "a member cnf of the wrong form"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an9_no_usable_answer_is_503_never_401_and_never_a_pass(how: dict[str, Any], why: str) -> None:
    scene = Scene()
    scene.fetch.answer(URL, **how)
    with unavailable_when(scene):
        (status,) = scene.method.status().values()
        assert why in status["last_error"]
        assert status["unavailable"] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["shop", "ann", "Bearer", "refresh_token", NOW + 9]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "cnf", "roles", "x"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON | st.dictionaries(st.sampled_from([*GOOD, "cnf", "nbf", "roles", "sid", "typ"]), JSON).map(
    lambda found: {**GOOD, **found}
))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_answer_lets_anybody_in_unless_it_is_well_formed_and_says_so(answer: Any) -> None:
    scene = Scene().answers(answer) if answer is not None else Scene()
    if answer is None:
        scene.fetch.answer(URL, body=b"null")
    found = scene.ask()
    if isinstance(found, Reply):
        assert (found.status == 401) == (found.reason in REFUSALS)
        assert found.status == 401 or found.reason == "authn.introspection_unavailable"
        return
    assert isinstance(answer, dict)
    assert answer["active"] is True
    assert answer["aud"] == "shop" or "shop" in answer["aud"]
    assert answer.get("exp") is None or answer["exp"] > NOW
    assert found.identity.subject in (answer.get("sub"), answer.get("client_id"))
    assert found.identity.subject
    assert (answer.get("token_type") or "bearer").lower() == "bearer"
    assert answer.get("cnf") is None or set(answer["cnf"]) == {"x5t#S256"}


@given(st.binary(max_size=64), st.sampled_from([200, 204, 400, 401, 500]))
@settings(max_examples=60, deadline=None)
def test_no_bytes_that_are_no_answer_let_anybody_in(body: bytes, status: int) -> None:
    scene = Scene()
    scene.fetch.answer(URL, body=body, status=status)
    assert scene.reason() == "authn.introspection_unavailable"
