"""What an outside authoriser is told: request and caller, and no credential that was not named."""

from __future__ import annotations

from typing import Any

import pytest
from tests.policies.authz.external_scene import (
    ENVOY,
    OPA,
    SEEN,
    Scene,
    asked,
)

from gatekit.core.door import Door
from gatekit.core.events import Events
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Reach
from gatekit.policies.authz.external_wire import MAX_QUESTION, MAX_TARGET
from gatekit.testing.clock import FixedRandom


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


def test_the_route_is_told_by_its_id() -> None:
    for style, url in (("opa", OPA), ("envoy", SEEN)):
        scene = Scene(style=style, send=["route"]).answers(url, json={"result": True})
        exchange = asked()
        exchange.route = RoutePlan("orders", "/v1/orders/{id}", Pipeline([], events=Events()))
        assert scene.ask(exchange) is True
        told = scene.question()["route"] if style == "opa" else dict(scene.fetch.calls[0].headers)["x-auth-route"]
        assert told == "orders"


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
