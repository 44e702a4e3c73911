"""What an outside authoriser's answers come to, and that what is no answer never allows by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.authz.external_scene import (
    OPA,
    SEEN,
    Scene,
    asked,
)

from gatekit.core.identity import Identity
from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.policies.authz.external import External
from gatekit.policies.authz.external_wire import MAX_ANSWER, MAX_TOLD
from gatekit.policies.authz.rules import ANSWER
from gatekit.testing import FakeFetch

# -- what its answers come to


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"result": True}, True),
        ({"result": {"allow": True}}, True),
        ({"result": {"allow": True, "headers": {}}, "decision_id": "x"}, True),
        ({"result": False}, False),
        ({}, False),
        ({"result": None}, False),
        ({"result": {}}, False),
        ({"result": {"allow": False, "reason": "no"}}, False),
        ({"result": {"allow": "true"}}, False),
        ({"result": {"allow": 1}}, False),
        ({"result": 1}, False),
        ({"result": "true"}, False),
        ({"result": [True]}, False),
        ({"allow": True}, False),
    ],
)
def test_of_opas_answers_only_true_allows(answer: Any, verdict: bool) -> None:
    exchange = asked()
    assert Scene().answers(json=answer).ask(exchange) is verdict
    if not verdict:
        reply = exchange.facts[ANSWER]
        assert (reply.status, reply.reason, reply.headers) == (403, "authz.denied_by_authoriser", [])


BAD: dict[str, dict[str, Any]] = {
    "no body": {},
    "no json": {"body": b"true!"},
    "no object": {"json": [True]},
    "not utf-8": {"body": b'{"result": true, "x": "\xff"}'},
    "twice": {"body": b'{"result": false, "result": true}'},
    "deep": {"body": b'{"result":' + b"[" * 30_000 + b"]" * 30_000 + b"}"},
    "huge": {"body": b'{"result": true, "x": "' + b"a" * MAX_ANSWER + b'"}'},
    "headers no object": {"json": {"result": {"allow": True, "headers": ["x-a"]}}},
    "header no text": {"json": {"result": {"allow": True, "headers": {"x-a": 1}}}},
    "204": {"status": 204},
    "302": {"status": 302, "headers": {"location": "https://x.example/"}, "json": {"result": True}},
    "400": {"status": 400, "json": {"result": True}},
    "401": {"status": 401},
    "404": {"status": 404},
    "500": {"status": 500, "json": {"result": True}},
    "503": {"status": 503},
    "unavailable": {"error": StoreUnavailable("https://opa.internal: no answer within 0.2 s")},
    "raises": {"error": RuntimeError("MARKER")},
}


@pytest.mark.parametrize("how", BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    ("on_error", "verdict", "status"), [("deny", None, 403), ("unavailable", None, 503), ("allow", True, None)]
)
def test_az3_what_is_no_answer_fails_closed(
    how: dict[str, Any], on_error: str, verdict: bool | None, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(on_error=on_error).answers(**how)
    exchange = asked()
    assert scene.ask(exchange) is verdict
    if status is not None:
        reply = scene.reply(exchange)
        assert (reply.status, reply.reason) == (status, "authz.authoriser_unavailable")
        assert ((b"retry-after", b"1") in reply.headers) is (status == 503)
    assert scene.counts == {"asked": 1, "failed": 1}
    told = scene.decider.status()
    assert told["last_error"]
    assert told["last_error_age"] == 0.0
    assert "MARKER" not in repr(told) + caplog.text


def test_az3_fail_closed_with_403_is_the_default() -> None:
    assert (External(url=OPA).timeout, External(url=OPA).on_error) == (0.2, "deny")


@pytest.mark.parametrize(
    ("how", "status", "headers"),
    [
        ({"status": 401, "headers": {"www-authenticate": "Bearer"}}, 401, [(b"www-authenticate", b"Bearer")]),
        ({"status": 401}, 403, []),
        (
            {"status": 403, "headers": {"x-why": "plan", "x-other": "a", "set-cookie": "a=1"}},
            403,
            [(b"x-why", b"plan")],
        ),
        ({"status": 403, "headers": {"www-authenticate": "Bearer"}}, 403, []),
        ({"status": 404}, 404, []),
        ({"status": 429, "headers": {"retry-after": "7"}}, 429, []),
    ],
)
def test_envoys_4xx_denies_with_its_status_and_the_listed_headers(
    how: dict[str, Any], status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    scene = Scene(style="envoy", client_headers=["X-Why"]).answers(SEEN, body=b"MARKER", **how)
    exchange = asked()
    assert scene.ask(exchange) is False
    reply = scene.reply(exchange)
    assert (reply.status, reply.reason, reply.headers, reply.body) == (
        status,
        "authz.denied_by_authoriser",
        headers,
        None,
    )


@pytest.mark.parametrize("status", [100, 201, 204, 301, 302, 307, 500, 502, 503, 504, 599])
def test_any_other_status_of_envoys_is_a_failure(status: int) -> None:
    scene = Scene(style="envoy").answers(SEEN, status=status)
    assert scene.ask() is None
    assert scene.decider.status()["last_error"] == f"the answer has status {status}"


def test_the_body_of_a_refusal_is_the_authorisers_where_that_is_wanted() -> None:
    scene = Scene(style="envoy", relay_body=True)
    scene.answers(SEEN, status=403, body=b"<p>no</p>", headers={"content-type": "text/html"}).answers(
        SEEN, status=403, body=b"no"
    )
    scene.answers(SEEN, status=403, body=b"a" * (MAX_ANSWER + 1)).answers(SEEN)
    first, second = asked(), asked()
    assert scene.ask(first) is False
    assert (scene.reply(first).body, scene.reply(first).headers) == (b"<p>no</p>", [(b"content-type", b"text/html")])
    assert scene.ask(second) is False
    assert (scene.reply(second).body, scene.reply(second).headers) == (
        b"no",
        [(b"content-type", b"text/plain; charset=utf-8")],
    )
    assert scene.ask() is None
    assert scene.ask() is True


# -- headers for the upstream


def test_az3_headers_for_the_upstream_are_allow_listed_and_take_the_place_of_the_clients() -> None:
    told = {
        "X-User-Plan": "gold",
        "x-other": "MARKER",
        "host": "MARKER",
        "content-length": "0",
        "connection": "x-user-plan",
    }
    spoofed = [("X-User-Plan", "a"), ("x_user_plan", "b"), ("X.User.Plan", "c"), ("x-mine", "d")]
    for style, url in (("opa", OPA), ("envoy", SEEN)):
        scene = Scene(style=style, upstream_headers=["X-User-Plan", "x-unsaid"])
        if style == "opa":
            scene.says({"allow": True, "headers": told})
        else:
            scene.answers(url, headers={name.lower(): value for name, value in told.items()})
        exchange = asked(headers=[*spoofed, ("X_Unsaid", "e")])
        assert scene.ask(exchange) is True
        assert exchange.headers.raw == [(b"host", b"gateway.test"), (b"x-mine", b"d"), (b"x-user-plan", b"gold")]
        assert scene.decider.strips == {b"x-user-plan", b"x-unsaid"}


def test_an_answer_that_sets_nothing_leaves_the_request_as_it_is() -> None:
    scene = Scene(upstream_headers=["x-a"]).says(True)
    exchange = asked(headers={"x-b": "1"})
    before = exchange.headers.raw
    assert scene.ask(exchange) is True
    assert exchange.headers.raw is before


@pytest.mark.parametrize("value", ["a\r\nx-admin: 1", "a\nb", "a\x00b", "☃", "a" * (MAX_TOLD + 1)])
def test_az3_a_header_that_is_not_well_formed_makes_it_no_answer(value: str) -> None:
    scene = Scene(upstream_headers=["x-a"]).says({"allow": True, "headers": {"x-a": value}})
    exchange = asked()
    assert scene.ask(exchange) is None
    assert b"x-a" not in exchange.headers


@pytest.mark.parametrize("headers", [{"x a": "1"}, {"": "1"}, {"x-a\n": "1"}, {"X-A": "1", "x-a": "2"}])
def test_az3_a_name_that_is_none_or_stands_twice_makes_it_no_answer(headers: dict[str, str]) -> None:
    assert Scene(upstream_headers=["x-a"]).says({"allow": True, "headers": headers}).ask() is None


def test_an_allowing_answer_sets_no_header_for_the_client_nor_a_denying_one_for_the_upstream() -> None:
    scene = Scene(upstream_headers=["x-up"], client_headers=["x-down"])
    both = {"x-up": "1", "x-down": "2"}
    scene.says({"allow": True, "headers": both}, {"allow": False, "headers": both})
    exchange = asked()
    assert scene.ask(exchange) is True
    assert exchange.headers.get("x-up") == "1"
    assert ANSWER not in exchange.facts
    exchange = asked(headers={"x-up": "client"})
    assert scene.ask(exchange) is False
    assert scene.reply(exchange).headers == [(b"x-down", b"2")]
    assert exchange.headers.get("x-up") == "client"


def test_where_failures_allow_the_clients_own_headers_go_all_the_same() -> None:
    scene = Scene(on_error="allow", upstream_headers=["x-user"]).answers(error=StoreUnavailable("down"))
    exchange = asked(headers={"X_User": "root"})
    assert scene.ask(exchange) is True
    assert [name for name, _ in exchange.headers.raw] == [b"host"]


# -- properties


@given(
    st.dictionaries(st.text(max_size=6), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=3)
    | st.lists(st.booleans()) | st.text() | st.integers() | st.none()
)  # fmt: skip
def test_no_result_but_true_allows(result: Any) -> None:
    allows = isinstance(result, dict) and result.get("allow") is True
    assert (Scene(retry=False).says(result).ask() is True) is allows


@given(st.binary(max_size=60), st.integers(100, 599))
def test_no_garbage_allows_or_raises(body: bytes, status: int) -> None:
    assert Scene().answers(status=status, body=body).ask() in (None, False)


@given(st.dictionaries(st.text(max_size=8) | st.just("x-a"), st.text(max_size=8), max_size=3))
def test_no_header_gets_past_the_list_or_out_of_its_line(headers: dict[str, str]) -> None:
    scene = Scene(upstream_headers=["x-a"]).says({"allow": True, "headers": headers})
    exchange = asked()
    if scene.ask(exchange) is True:
        for name, value in exchange.headers.raw:
            assert name in (b"host", b"x-a")
            assert not set(value) & set(b"\r\n\x00")


@given(st.text(max_size=10), st.sets(st.text(min_size=1, max_size=5), max_size=3), st.text(max_size=10))
def test_two_callers_are_never_told_alike_in_headers(subject: str, roles: set[str], tenant: str) -> None:
    """What is sent says exactly what the caller is, or is not sent."""

    class Any_(FakeFetch):
        async def __call__(self, method: str, url: str, **fields: Any) -> Fetched:
            seen.append(dict(fields["headers"]))
            return Fetched(200, {}, b"")

    seen: list[dict[str, str]] = []
    scene = Scene(fetch=Any_(), style="envoy", send=["subject", "roles", "tenant"])
    identity = Identity(subject, tenant=tenant, roles=frozenset(roles), scheme="jwt")
    if scene.ask(asked(identity=identity)) is True:
        (headers,) = seen
        told = headers.get("x-auth-roles", "").encode("latin-1").decode("utf-8", "surrogatepass")
        assert set(told.split(",")) - {""} == roles
        for name, value in (("x-auth-subject", subject), ("x-auth-tenant", tenant)):
            assert headers.get(name, "").encode("latin-1").decode("utf-8", "surrogatepass") == value
