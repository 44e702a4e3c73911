"""An outside authoriser: what it is told, what its answers come to, and that what goes wrong never allows by itself."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatekit.core.door import Door
from gatekit.core.events import BreakerChanged, Events
from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.policy import bound
from gatekit.core.ports import Cells, Fetched, Ports, Reach
from gatekit.core.verdict import Reply
from gatekit.errors import MissingPort, MissingSecret, StoreUnavailable
from gatekit.gateway.shared import Shared
from gatekit.mechanisms.breaker import State
from gatekit.policies.authz import Authz, Rule
from gatekit.policies.authz.external import External, external
from gatekit.policies.authz.external_call import BREAKER, QUIET, BoundExternal
from gatekit.policies.authz.external_wire import MAX_ANSWER, MAX_QUESTION, MAX_TARGET, MAX_TOLD
from gatekit.policies.authz.rules import ANSWER, Decider, Outside
from gatekit.testing import FakeFetch, ManualClock, request, test_ports
from gatekit.testing.clock import FixedRandom
from gatekit.testing.policies import step

OPA = "https://opa.internal/v1/data/httpapi/authz"
ENVOY = "https://auth.internal/check"
SEEN = ENVOY + "/v1/orders/7"

ANN = Identity(
    "ann", issuer="https://id.example", tenant="acme", client="app", scopes=frozenset({"b", "a"}),
    roles=frozenset({"staff", "admin"}), claims={"level": 3, "email": "ann@x.example", "groups": ["g"]}, scheme="jwt",
)  # fmt: skip


class Unreached(StoreUnavailable):
    """As the Fetch port says that no connection came about."""

    unsent = True


def asked(target: str = "/v1/orders/7?q=1", **given: Any) -> Exchange:
    told: dict[str, Any] = {"identity": ANN, "params": {"id": "7"}, **given}
    return request(told.pop("method", "GET"), target, **told)


class Scene:
    """An authoriser whose answers are scripted, before a clock that stands still."""

    def __init__(self, fetch: Any = None, ports: dict[str, Any] | None = None, **fields: Any) -> None:
        self.clock = ManualClock()
        self.fetch: Any = FakeFetch() if fetch is None else fetch
        self.spec = External(url=fields.pop("url", ENVOY if fields.get("style") == "envoy" else OPA), **fields)
        self.ports = test_ports(**{"clock": self.clock, "fetch": self.fetch, **(ports or {})})
        self.decider: BoundExternal = self.spec.bind_to(self.ports)

    def answers(self, url: str = OPA, **how: Any) -> Scene:
        self.fetch.answer(url, **how)
        return self

    def says(self, *results: Any) -> Scene:
        for result in results:
            self.answers(json={"result": result})
        return self

    def ask(self, exchange: Exchange | None = None) -> bool | None:
        found = self.decider.decide(asked() if exchange is None else exchange)
        if callable(found):
            pending: Any = found()
            told: bool | None = step(pending, "asking")
            return told
        return found

    def reply(self, exchange: Exchange) -> Reply:
        found: Reply = exchange.facts[ANSWER]
        return found

    def question(self) -> Any:
        return json.loads(self.fetch.calls[-1].body)["input"]

    @property
    def counts(self) -> dict[str, object]:
        told = self.decider.status()
        return {
            name: told[name]
            for name in ("asked", "allowed", "denied", "cached", "failed", "withheld", "retried")
            if told[name]
        }


# -- what it is told


def test_opa_is_told_of_request_and_caller() -> None:
    scene = Scene().says(True)
    assert scene.ask() is True
    (call,) = scene.fetch.calls
    assert (call.method, call.url, call.timeout, call.reach) == ("POST", OPA, 0.2, Reach())
    assert dict(call.headers) == {"content-type": "application/json", "accept": "application/json"}
    assert scene.question() == {
        "method": "GET", "host": "gateway.test", "path": "/v1/orders/7", "segments": ["v1", "orders", "7"],
        "client_ip": "192.0.2.1",
        "identity": {
            "authenticated": True, "subject": "ann", "tenant": "acme", "client": "app", "scopes": ["a", "b"],
            "roles": ["admin", "staff"],
        },
    }  # fmt: skip


def test_opa_is_told_whatever_is_chosen() -> None:
    parts = [
        "method",
        "scheme",
        "host",
        "path",
        "query",
        "route",
        "params",
        "client_ip",
        "subject",
        "issuer",
        "authentication",
    ]
    scene = Scene(send=parts, claims=["level", "groups", "other"], headers=["X-Plan", "cookie"]).says(True)
    headers = [("X-Plan", "a"), ("x-plan", "b"), ("Cookie", "c=1"), ("Authorization", "Bearer MARKER")]
    assert scene.ask(asked(headers=headers)) is True
    assert scene.question() == {
        "method": "GET", "scheme": "http", "host": "gateway.test", "path": "/v1/orders/7", "segments": ["v1", "orders", "7"],
        "query": "q=1", "route": None, "params": {"id": "7"}, "client_ip": "192.0.2.1",
        "headers": {"x-plan": ["a", "b"], "cookie": ["c=1"]},
        "identity": {
            "authenticated": True, "subject": "ann", "issuer": "https://id.example", "authentication": "jwt",
            "claims": {"level": 3, "groups": ["g"]},
        },
    }  # fmt: skip
    assert b"MARKER" not in scene.fetch.calls[0].body


def test_no_credential_and_no_query_is_told_unless_it_is_named() -> None:
    for style, url in (("opa", OPA), ("envoy", ENVOY + "/x")):
        scene = Scene(style=style).answers(url, json={"result": True})
        headers = {"Authorization": "Bearer MARKER", "Cookie": "MARKER", "X-Api-Key": "MARKER"}
        assert scene.ask(asked("/x?token=MARKER", headers=headers)) is True
        assert "MARKER" not in repr(scene.fetch.calls)


@pytest.mark.parametrize("identity", [None, ANONYMOUS])
def test_a_caller_who_is_nobody_is_told_as_such(identity: Identity | None) -> None:
    scene = Scene(claims=["level"]).says(False)
    assert scene.ask(asked(identity=identity)) is False
    assert scene.question()["identity"] == {
        "authenticated": False, "subject": "", "tenant": None, "client": None, "scopes": [], "roles": [], "claims": {},
    }  # fmt: skip


def test_envoy_is_asked_with_the_request_itself() -> None:
    scene = Scene(
        style="envoy", url=ENVOY + "/", headers=["x-plan"], claims=["level", "email", "other"],
        send=["host", "scheme", "query", "client_ip", "route", "subject", "tenant", "client", "scopes", "roles"],
        credentials={"Authorization": "Bearer gateway"},
    ).answers(SEEN + "?q=1")  # fmt: skip
    assert scene.ask(asked(method="DELETE", headers=[("X-Plan", "a"), ("X-Plan", "b"), ("X-Other", "c")])) is True
    (call,) = scene.fetch.calls
    assert (call.method, call.url, call.body) == ("DELETE", SEEN + "?q=1", b"")
    assert call.headers == (
        ("x-forwarded-host", "gateway.test"), ("x-forwarded-proto", "http"), ("x-forwarded-for", "192.0.2.1"),
        ("x-auth-subject", "ann"), ("x-auth-tenant", "acme"), ("x-auth-client", "app"), ("x-auth-scopes", "a b"),
        ("x-auth-roles", "admin,staff"), ("x-auth-claim-level", "3"), ("x-auth-claim-email", "ann@x.example"),
        ("x-plan", "a"), ("x-plan", "b"), ("authorization", "Bearer gateway"),
    )  # fmt: skip


def test_the_body_is_there_and_empty_so_that_no_redirect_is_followed() -> None:
    """A GET without a body would be sent on to wherever the authoriser redirects, and a login page's 200 would allow."""
    scene = Scene(style="envoy").answers(SEEN, status=302, headers={"location": "https://login.example/"})
    assert scene.ask() is None
    assert [call.body for call in scene.fetch.calls] == [b""]


def test_the_path_that_is_told_is_the_one_that_is_served() -> None:
    scene = Scene().says(True)
    exchange = asked("/public/../admin/%7euser//x?y")
    assert scene.ask(exchange) is True
    assert exchange.raw_path == b"/admin/~user/x"
    assert (scene.question()["path"], scene.question()["segments"]) == ("/admin/~user/x", ["admin", "~user", "x"])
    scene = Scene(style="envoy", url="https://auth.internal").answers("https://auth.internal/admin/~user/x")
    assert scene.ask(exchange) is True


def test_the_query_that_is_told_has_no_credential_that_was_cut_out() -> None:
    scene = Scene(send=["query"]).says(True)
    exchange = asked("/x?key=MARKER&a=1")
    exchange.rewrite(query=b"a=1")
    assert scene.ask(exchange) is True
    assert scene.question()["query"] == "a=1"


def test_an_asterisk_is_asked_about_too() -> None:
    scene = Scene(style="envoy").answers(ENVOY + "/*")
    assert scene.ask(asked("*", method="OPTIONS")) is True


def test_a_client_without_an_address_has_none() -> None:
    scene = Scene(style="envoy").answers(SEEN)
    assert scene.ask(asked(client=None)) is True
    assert "x-forwarded-for" not in dict(scene.fetch.calls[0].headers)


def test_text_of_any_language_is_told_as_utf_8() -> None:
    scene = Scene(style="envoy", send=["subject"]).answers(SEEN)
    assert scene.ask(asked(identity=Identity("Zoë", scheme="jwt"))) is True
    assert dict(scene.fetch.calls[0].headers)["x-auth-subject"].encode("latin-1") == "Zoë".encode()


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({"claims": ["bad"]}, {"identity": Identity("ann", claims={"bad": object()}, scheme="jwt")}),
        ({"claims": ["bad"]}, {"identity": Identity("ann", claims={"bad": float("nan")}, scheme="jwt")}),
        ({"claims": ["bad"]}, {"identity": Identity("ann", claims={"bad": "x" * MAX_QUESTION}, scheme="jwt")}),
        ({"style": "envoy", "claims": ["bad"]}, {"identity": Identity("ann", claims={"bad": object()}, scheme="jwt")}),
        ({"style": "envoy", "claims": ["bad"]}, {"identity": Identity("ann", claims={"bad": "a\nb"}, scheme="jwt")}),
        ({"style": "envoy"}, {"identity": Identity("a\r\nx-auth-roles: admin", scheme="jwt")}),
        ({"style": "envoy"}, {"identity": Identity("admin ", scheme="jwt")}),
        ({"style": "envoy"}, {"identity": Identity("ann", roles=frozenset({"a,admin"}), scheme="jwt")}),
        ({"style": "envoy"}, {"identity": Identity("ann", scopes=frozenset({"a admin"}), scheme="jwt")}),
        ({"style": "envoy", "headers": ["x-a"]}, {"headers": {"x-a": "a\x01b"}}),
        ({"style": "envoy", "headers": ["x-a", "x-b"]}, {"headers": {"x-a": "a" * 30_000, "x-b": "b" * 36_000}}),
        ({"style": "envoy"}, {"target": "/" + "a" * MAX_TARGET}),
        ({"style": "envoy", "send": ["query"]}, {"target": "/x?a\\b"}),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_request_that_cannot_be_put_is_denied_whatever_failures_do(
    fields: dict[str, Any], given: dict[str, Any], on_error: str
) -> None:
    scene = Scene(on_error=on_error, **fields)
    door = Door(FixedRandom(), max_header_bytes=1 << 20, max_target=1 << 20)
    exchange = asked(**{"target": "/v1/orders/7", **given}, door=door)
    assert scene.ask(exchange) is None
    assert (scene.reply(exchange).status, scene.reply(exchange).reason) == (403, "authz.question_refused")
    assert scene.fetch.calls == []
    assert scene.decider.status()["unaskable"] == 1


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


# -- trying again


def test_az3_one_more_attempt_is_made_where_no_connection_came_about() -> None:
    scene = Scene().answers(error=Unreached("refused")).says(True)
    assert scene.ask() is True
    assert scene.counts == {"asked": 1, "allowed": 1, "retried": 1}


def test_az3_there_are_never_more_than_two_attempts() -> None:
    scene = Scene().answers(error=Unreached("refused"))
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 2
    assert scene.counts == {"asked": 1, "failed": 1, "retried": 1}


@pytest.mark.parametrize(
    "how", [{"error": StoreUnavailable("broke off")}, {"status": 503}, {"error": RuntimeError()}], ids=range(3)
)
def test_az3_what_may_have_been_heard_is_not_said_again(how: dict[str, Any]) -> None:
    scene = Scene().answers(**how).says(True)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 1


def test_no_second_attempt_where_none_is_wanted_or_no_time_is_left() -> None:
    scene = Scene(retry=False).answers(error=Unreached("refused")).says(True)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 1

    class Slow(FakeFetch):
        async def __call__(self, *args: Any, **fields: Any) -> Fetched:
            clock.advance(after.pop(0))
            return await super().__call__(*args, **fields)

    for spent, calls in (([0.15], 2), ([0.196], 1)):
        after = [*spent, 0.0]
        scene = Scene(fetch=Slow())
        clock = scene.clock
        scene.answers(error=Unreached("refused")).says(True)
        assert scene.ask() is (True if calls == 2 else None)
        assert len(scene.fetch.calls) == calls
    assert after == [0.0]


def test_both_attempts_share_one_timeout() -> None:
    class Slow(FakeFetch):
        async def __call__(self, *args: Any, **fields: Any) -> Fetched:
            scene.clock.advance(0.05)
            return await super().__call__(*args, **fields)

    scene = Scene(fetch=Slow(), timeout=0.3).answers(error=Unreached("refused")).says(True)
    assert scene.ask() is True
    assert [round(call.timeout, 3) for call in scene.fetch.calls] == [0.3, 0.25]


# -- answers that are kept


def test_an_answer_stands_for_equal_questions_until_its_time_is_over() -> None:
    scene = Scene(cache={"ttl": 30}, upstream_headers=["x-a"])
    scene.says({"allow": True, "headers": {"x-a": "1"}}, False)
    for _ in range(3):
        exchange = asked(headers={"X_A": "spoofed"})
        assert scene.ask(exchange) is True
        assert exchange.headers.get("x-a") == "1"
        assert b"x_a" not in exchange.headers
    assert scene.counts == {"asked": 1, "allowed": 1, "cached": 2}
    scene.clock.advance(30)
    for _ in range(2):
        exchange = asked()
        assert scene.ask(exchange) is False
        assert scene.reply(exchange).reason == "authz.denied_by_authoriser"
    assert scene.counts == {"asked": 2, "allowed": 1, "denied": 1, "cached": 3}


@pytest.mark.parametrize(
    "other",
    [
        asked("/v1/orders/8"), asked(method="POST"), asked(client="192.0.2.2"), asked(headers={"x-a": "1"}),
        asked(identity=None), asked(identity=Identity("bob", scheme="jwt")),
        asked(identity=Identity("ann", tenant="acme", client="app", scopes=ANN.scopes, roles=frozenset({"admin"}), scheme="jwt")),
    ],
    ids=range(7),
)  # fmt: skip
@pytest.mark.parametrize("style", ["opa", "envoy"])
def test_whatever_is_told_tells_questions_apart(other: Exchange, style: str) -> None:
    class Counting(FakeFetch):
        async def __call__(self, method: str, url: str, **fields: Any) -> Fetched:
            self._answers.setdefault(url, self._answers[OPA])
            return await super().__call__(method, url, **fields)

    scene = Scene(fetch=Counting(), style=style, cache={"ttl": 30}, headers=["x-a"]).says(True)
    scene.ask(asked())
    scene.ask(other)
    assert len(scene.fetch.calls) == 2
    scene.ask(asked())
    assert len(scene.fetch.calls) == 2


def test_what_is_not_told_does_not() -> None:
    scene = Scene(cache={"ttl": 30}, send=["path", "roles"]).says(True)
    assert scene.ask(asked(method="GET")) is True
    assert scene.ask(asked(method="POST", client="192.0.2.9", headers={"x-a": "1"})) is True
    assert len(scene.fetch.calls) == 1


@pytest.mark.parametrize("how", [{"status": 503}, {"error": StoreUnavailable("down")}, {"body": b"?"}], ids=range(3))
def test_failures_are_never_kept(how: dict[str, Any]) -> None:
    scene = Scene(cache={"ttl": 30}).answers(**how).says(True)
    assert scene.ask() is None
    assert scene.ask() is True


def test_a_request_that_cannot_be_put_is_denied_with_a_cache_too() -> None:
    scene = Scene(cache={"ttl": 30}, claims=["bad"])
    exchange = asked(identity=Identity("ann", claims={"bad": object()}, scheme="jwt"))
    assert scene.ask(exchange) is None
    assert scene.reply(exchange).reason == "authz.question_refused"


def test_so_many_answers_are_kept_and_no_more() -> None:
    scene = Scene(cache={"ttl": 60, "entries": 10}, send=["params"]).says(True)
    for number in range(50):
        scene.ask(asked(params={"id": str(number)}))
    assert scene.decider._line.cache is not None
    assert len(scene.decider._line.cache) <= 10
    assert scene.ask(asked(params={"id": "49"})) is True
    assert len(scene.fetch.calls) == 50


async def test_an_equal_question_is_asked_once_at_a_time() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, cache={"ttl": 30}, ports={"once": Shared()})
    waiting = [asyncio.ensure_future(asking(scene)) for _ in range(20)]
    await fetch.begun(1)
    waiting.pop().cancel()
    fetch.let_go()
    assert await asyncio.gather(*waiting) == [True] * 19
    assert fetch.calls == 1
    assert scene.counts == {"asked": 1, "allowed": 1}


class Held:
    """A fetch that answers when it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self._gate = asyncio.Event()
        self._changed = asyncio.Event()

    async def __call__(self, *args: Any, **fields: Any) -> Fetched:
        self.calls += 1
        self._changed.set()
        await self._gate.wait()
        return Fetched(200, {}, b'{"result": true}')

    async def begun(self, number: int) -> None:
        async with asyncio.timeout(5):
            while self.calls < number:
                self._changed.clear()
                await self._changed.wait()

    def let_go(self) -> None:
        self._gate.set()


async def asking(scene: Scene, exchange: Exchange | None = None) -> bool | None:
    found = scene.decider.decide(asked() if exchange is None else exchange)
    return await found() if callable(found) else found


# -- too many, and down


async def test_beyond_so_many_questions_one_more_is_a_failure() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, max_in_flight=3)
    waiting = [asyncio.ensure_future(asking(scene)) for _ in range(3)]
    await fetch.begun(3)
    assert scene.decider.status()["in_flight"] == 3
    exchange = asked()
    assert await asking(scene, exchange) is None
    assert scene.reply(exchange).reason == "authz.authoriser_unavailable"
    fetch.let_go()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await asking(scene) is True
    assert scene.counts == {"asked": 4, "allowed": 4, "withheld": 1}
    assert scene.decider.status()["in_flight"] == 0


async def test_a_caller_who_gives_up_gives_his_place_back_and_blames_nobody() -> None:
    fetch = Held()
    scene = Scene(fetch=fetch, max_in_flight=1)
    for number in range(20):
        waiting = asyncio.ensure_future(asking(scene))
        await fetch.begun(number + 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert scene.decider.status()["in_flight"] == 0
    assert scene.decider.status()["breaker"] == "closed"


def test_after_failures_in_a_row_nobody_waits_for_the_timeout_any_more() -> None:
    moves: list[tuple[str, str, str]] = []
    events = Events()
    events.subscribe(BreakerChanged, lambda event: moves.append((event.name, event.before, event.after)))
    scene = Scene(ports={"events": events}).answers(error=StoreUnavailable("no answer"))
    for _ in range(20):
        assert scene.ask() is None
    assert len(scene.fetch.calls) == BREAKER.min_requests == 5
    assert scene.decider.status()["breaker"] == State.OPEN
    assert scene.counts == {"asked": 5, "failed": 5, "withheld": 15}
    scene.clock.advance(BREAKER.open_for * 1.3)
    assert scene.ask() is None
    assert len(scene.fetch.calls) == 6
    scene.fetch = FakeFetch()
    scene.decider._fetch = scene.fetch
    scene.says(True)
    scene.clock.advance(BREAKER.open_for * 2 * 1.3)
    assert scene.ask() is True
    assert scene.ask() is True
    assert scene.decider.status()["breaker"] == State.CLOSED
    assert moves[0] == ("authz:opa.internal", "closed", "open")
    assert moves[-1][2] == "closed"


@pytest.mark.parametrize(
    "how", [{"status": 500}, {"status": 400}, {"body": b"?"}, {"json": {"result": {"headers": 1}}}], ids=range(4)
)
def test_one_who_answers_in_time_is_not_down_so_no_request_can_shut_out_others(how: dict[str, Any]) -> None:
    scene = Scene().answers(**how)
    for _ in range(50):
        assert scene.ask() is None
    assert scene.decider.status()["breaker"] == "closed"
    assert scene.counts == {"asked": 50, "failed": 50}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_one_behind_a_proxy_that_does_not_reach_it_is_down(status: int) -> None:
    scene = Scene().answers(status=status)
    for _ in range(9):
        scene.ask()
    assert scene.decider.status()["breaker"] == "open"


def test_where_failures_allow_they_do_while_the_breaker_is_open() -> None:
    scene = Scene(on_error="allow").answers(error=StoreUnavailable("no answer"))
    assert {scene.ask() for _ in range(20)} == {True}
    assert scene.decider.status()["breaker"] == "open"


def test_an_outage_is_logged_once_in_a_while_and_without_anything_of_a_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene().answers(status=500)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            scene.ask(asked("/MARKER", headers={"x": "MARKER"}, identity=Identity("MARKER", scheme="jwt")))
        assert len(caplog.records) == 1
        scene.clock.advance(QUIET)
        scene.ask()
    assert [record.getMessage() for record in caplog.records] == [
        "the authoriser at opa.internal: the answer has status 500"
    ] * 2


# -- state


def test_places_that_ask_the_same_share_what_is_known_and_a_reload_keeps_it() -> None:
    cells = Cells()
    scene = Scene(cache={"ttl": 30}, ports={"cells": cells}).says(True)
    scene.ask()
    again = Scene(
        fetch=scene.fetch, cache={"ttl": 30}, ports={"cells": cells, "clock": scene.clock, "owner": "route:other"}
    )
    assert again.ask() is True
    assert again.counts == {"asked": 1, "allowed": 1, "cached": 1}
    other = Scene(fetch=scene.fetch, cache={"ttl": 30}, timeout=0.1, ports={"cells": cells, "clock": scene.clock})
    assert other.counts == {}
    ports = test_ports(cells=cells)
    External(url=OPA).bind_to(ports)
    assert len(ports.used) == 1


def test_ports_are_asked_for_when_it_is_bound() -> None:
    with pytest.raises(MissingPort, match="fetch"):
        External(url=OPA).bind_to(test_ports(fetch=None))
    with pytest.raises(MissingSecret):
        External(url=OPA, credentials={"authorization": "env:NOWHERE"}).bind_to(test_ports())


def test_credentials_are_looked_up_and_never_shown() -> None:
    spec = External(url=OPA, credentials={"Authorization": "env:OPA_TOKEN"})
    ports = test_ports(secrets=lambda reference: {"env:OPA_TOKEN": "Bearer MARKER"}[reference])
    decider = spec.bind_to(ports)
    scene = Scene(credentials={"Authorization": "Bearer MARKER"}).says(True)
    assert scene.ask() is True
    assert ("authorization", "Bearer MARKER") in scene.fetch.calls[0].headers
    assert "MARKER" not in repr(spec) + repr(scene.spec) + repr(decider.status()) + repr(decider) + decider.words
    with pytest.raises(ValueError, match="credential x-a") as caught:
        External(url=OPA, credentials={"x-a": "MARKER\n1"}).bind_to(test_ports())
    assert "MARKER" not in str(caught.value)


# -- settings


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "opa.internal/v1"}, "absolute http or https URL"),
        ({"url": "https://ópa.internal/"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/\x7f"}, "absolute http or https URL"),
        ({"url": "https://opa.internal\\@x/"}, "absolute http or https URL"),
        ({"url": "ftp://opa.internal/"}, "absolute http or https URL"),
        ({"url": "https://user:MARKER@opa.internal/"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/#x"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/a b"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/" + "a" * 2048}, "absolute http or https URL"),
        ({"url": "http://opa.internal/"}, "over http, whoever is on the way decides"),
        ({"url": "https://a.example/?x", "style": "envoy"}, "it has no query"),
        ({"style": "envoy", "send": ["params"]}, "no place for params"),
        ({"style": "envoy", "claims": ["a", "A"]}, "two claims would be told in one header"),
        ({"style": "envoy", "claims": ["https://x/roles"]}, "not a header name"),
        ({"style": "envoy", "headers": ["X-Auth-Subject"]}, "a client's own cannot be passed on"),
        ({"style": "envoy", "headers": ["x_auth_claim_level"], "claims": ["level"]}, "a client's own cannot be passed on"),
        ({"headers": ["authorization"], "credentials": {"Authorization": "x"}}, "both the client's and the gateway's own"),
        ({"headers": ["x_user"], "upstream_headers": ["x-user"]}, "comes from the authoriser"),
        ({"relay_body": True}, "relay_body is for style: envoy"),
        ({"upstream_headers": ["Host"]}, "frames a message"),
        ({"upstream_headers": ["content_length"]}, "frames a message"),
        ({"upstream_headers": ["connection"]}, "frames a message"),
        ({"upstream_headers": ["Transfer-Encoding"]}, "frames a message"),
        ({"upstream_headers": ["x-forwarded-for"]}, "frames a message"),
        ({"client_headers": ["content-length"]}, "frames a message"),
        ({"headers": ["te"]}, "frames a message"),
        ({"credentials": {"host": "x"}}, "frames a message"),
        ({"upstream_headers": ["a b"]}, "not a header name"),
        ({"upstream_headers": ["x-a", "x_a"]}, "named twice"),
        ({"networks": ["10.0.0.0/99"]}, "is no network"),
        ({"cache": {"ttl": 61}}, "less than or equal to 60"),
        ({"cache": {"ttl": 0}}, "greater than 0"),
        ({"timeout": 0}, "greater than 0"),
        ({"timeout": 11}, "less than or equal to 10"),
        ({"max_in_flight": 0}, "greater than or equal to 1"),
        ({"on_error": "open"}, "'deny', 'unavailable' or 'allow'"),
        ({"send": ["body"]}, "'method'"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)  # fmt: skip
def test_a_bad_setting_says_what_to_do(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        External.model_validate({"url": OPA, **fields})
    assert says in str(caught.value)
    assert "MARKER" not in str(caught.value)


def test_a_network_of_its_own_may_be_reached_over_http() -> None:
    scene = Scene(url="http://10.0.0.7:8181/v1/data/x", networks=["10.0.0.7"], ca="/etc/ca.pem")
    scene.answers("http://10.0.0.7:8181/v1/data/x", json={"result": True})
    assert scene.ask() is True
    assert scene.fetch.calls[0].reach == Reach(("10.0.0.7/32",), "/etc/ca.pem")


# -- as a condition of rules


def test_it_is_what_rules_take_from_outside() -> None:
    spec = external(OPA, timeout=0.1)
    assert spec == External(url=OPA, timeout=0.1)
    assert isinstance(spec, Outside)
    assert spec.asks
    decider = spec.bind_to(test_ports())
    assert isinstance(decider, Decider)
    assert decider.words == "the authoriser at opa.internal agrees"


def policy(ports: Ports, *rules: Rule, **fields: Any) -> Any:
    return bound(Authz(allow=rules, **fields), ports).policy


def refused(found: Any) -> Reply | None:
    reply: Reply | None = step(found, "decide") if isinstance(found, Coroutine) else found
    return reply


def test_rules_with_an_authoriser_decide_by_it() -> None:
    scene = Scene()
    scene.says(True, False).answers(status=503)
    by_rules = policy(scene.ports, Rule(external=scene.spec, roles=("admin",)))
    assert refused(by_rules.decide(asked())) is None
    denied = refused(by_rules.decide(asked()))
    assert denied is not None
    assert (denied.status, denied.reason) == (403, "authz.denied_by_authoriser")
    down = refused(by_rules.decide(asked()))
    assert down is not None
    assert (down.status, down.reason) == (403, "authz.authoriser_unavailable")
    (told,) = by_rules.status()["outside"]
    assert (told["says"], told["asked"], told["failed"]) == (scene.decider.words, 3, 1)


def test_nobody_is_asked_about_what_is_settled_already() -> None:
    scene = Scene()
    by_rules = policy(scene.ports, Rule(external=scene.spec, roles=("nobody",)), Rule(roles=("admin",)))
    assert refused(by_rules.decide(asked())) is None
    assert refused(by_rules.decide(asked(identity=Identity("bob", scheme="jwt")))) is not None
    assert scene.fetch.calls == []


def test_se5_a_header_of_the_authorisers_is_taken_from_a_client_about_whom_nobody_is_asked() -> None:
    scene = Scene(upstream_headers=["x-user-plan"])
    by_rules = policy(scene.ports, Rule(roles=("admin",)), Rule(external=scene.spec))
    exchange = asked(headers={"X_User_Plan": "gold", "x-mine": "1"})
    assert refused(by_rules.decide(exchange)) is None
    assert [name for name, _ in exchange.headers.raw] == [b"host", b"x-mine"]


def test_a_deny_rule_whose_authoriser_is_down_denies() -> None:
    scene = Scene().answers(error=StoreUnavailable("down"))
    by_rules = policy(scene.ports, Rule(roles=("admin",)), deny=(Rule(external=scene.spec),))
    found = refused(by_rules.decide(asked()))
    assert found is not None
    assert found.reason == "authz.authoriser_unavailable"


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
