"""One table of stories about policies around an app, each played under ASGI and under WSGI with the same expectations.

A story says which policies stand in front of which app, what is asked, and what must come of it. What only one of the
two interfaces can do, and what changes bodies, is in the files beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.testing import Log, Probe

Check = Callable[[Any], None]


@dataclass
class Story:
    name: str
    policies: Callable[[Log], Sequence[Spec]]
    expect: Check
    app: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)


def answering(status: int = 403, reason: str = "probe.refused", **given: Any) -> Callable[[Exchange], Reply]:
    return lambda exchange: Reply(status, reason, **given)


def failing(*_: object) -> Any:
    raise LookupError("the hook broke")


def three(**middle: Any) -> Callable[[Log], list[Spec]]:
    """Probes a, b, c; `b` has these hooks."""
    return lambda log: [Probe("a", log), Probe("b", log, **middle), Probe("c", log)]


def one(**hooks: Any) -> Callable[[Log], list[Spec]]:
    return lambda log: [Probe("a", log, **hooks)]


def everything_in_order(played: Any) -> None:
    assert played.response.status == 200
    assert played.response.body == b"ok"
    assert played.log == [
        ("a", "decide"), ("b", "decide"), ("c", "decide"),
        ("c", "on_response", 200), ("b", "on_response", 200), ("a", "on_response", 200),
        ("a", "observe", 200, "nobody"), ("b", "observe", 200, "nobody"), ("c", "observe", 200, "nobody"),
    ]  # fmt: skip
    assert len(played.seen) == 1


def reply_of_b(played: Any) -> None:
    response = played.response
    assert response.status == 403
    assert response.header("content-type") == "application/problem+json"
    assert response.json()["code"] == "probe.refused"
    assert response.json()["request_id"]
    assert played.log == [
        ("a", "decide"), ("b", "decide"), ("b", "on_response", 403), ("a", "on_response", 403),
        ("a", "observe", 403, "client"), ("b", "observe", 403, "client"),
    ]  # fmt: skip
    assert played.seen == []


def failed(status: int, hooks: list[tuple[str, int]]) -> Check:
    def check(played: Any) -> None:
        assert played.response.status == status
        assert played.response.json()["code"] == "policy.failed"
        assert b"broke" not in played.response.body
        assert played.calls("on_response") == hooks
        assert all(entry[1:] == (status, "gateway") for entry in played.calls("observe"))
        assert played.opened == played.closed

    return check


def app_error(error: Exception, status: int | None) -> Check:
    def check(played: Any) -> None:
        assert played.response.error is error
        assert played.calls("observe") == [("a", status, "app"), ("b", status, "app"), ("c", status, "app")]
        assert played.opened == played.closed

    return check


def header_of(name: str, *values: str) -> Check:
    def check(played: Any) -> None:
        assert played.response.headers.get_all(name) == list(values)

    return check


def replayed(played: Any) -> None:
    assert played.response.status == 200
    assert played.seen[0]["body"] == b"hello body"
    assert played.seen[0]["exchange"] is not None


def too_large(played: Any) -> None:
    assert played.response.status == 413
    assert played.response.json()["code"] == "body.too_large"
    assert played.seen == []
    assert played.decided == ["a"] or played.decided == []
    assert played.calls("observe") == [("a", 413, "client")]


def missing(played: Any) -> None:
    assert played.response.status == 500
    assert played.response.json()["code"] == "policy.missing_requirement"
    assert played.seen == []
    assert played.calls("observe") == [("a", 500, "gateway"), ("b", 500, "gateway")]


def identified(played: Any) -> None:
    seen = played.seen[0]
    assert seen["user"].display_name == "ann"
    assert seen["user"].is_authenticated
    assert "read" in seen["auth"].scopes
    assert seen["exchange"].identity is seen["user"]


def mutated(played: Any) -> None:
    headers = played.seen[0]["headers"]
    assert [value for name, value in headers if name == b"x-set"] == [b"new"]
    assert not any(name == b"x-gone" for name, _ in headers)
    assert [value for name, value in headers if name == b"x-kept"] == [b"1"]


def canonical(played: Any) -> None:
    seen = played.seen[0]
    assert (seen["path"], seen["raw_path"], seen["query"]) == ("/a/c é", b"/a/c%20%C3%A9", b"q=%41")


def rewritten(played: Any) -> None:
    seen = played.seen[0]
    assert (seen["path"], seen["raw_path"], seen["query"]) == ("/v2/x", b"/v2/x", b"a=b")


def door(status: int, reason: str) -> Check:
    def check(played: Any) -> None:
        assert played.response.status == status
        assert played.response.json()["code"] == reason
        assert played.decided == ["a", "b", "c"]
        assert [entry[0] for entry in played.calls("on_response")] == ["c", "b", "a"]
        assert played.calls("observe") == [("a", status, "client"), ("b", status, "client"), ("c", status, "client")]
        assert played.seen == []

    return check


def left_in_the_middle(played: Any) -> None:
    assert played.calls("observe") == [("a", 499, "nobody"), ("b", 499, "nobody"), ("c", 499, "nobody")]
    assert not played.response.complete
    assert played.opened == played.closed


def identify(exchange: Exchange) -> None:
    exchange.identity = Identity("ann", scopes=frozenset({"read"}), scheme="test")


def change_headers(exchange: Exchange) -> None:
    exchange.headers.set("x-set", "new")
    exchange.headers.remove("x-gone")


def status_of(status: int) -> Callable[[Exchange, Any], None]:
    def change(exchange: Exchange, head: Any) -> None:
        head.status = status

    return change


BROKE = OSError("the app broke")
BROKE_LATE = ValueError("the app broke in its body")

STORIES = [
    Story("decide in order, response in reverse, one observation each", three(), everything_in_order),
    Story("a reply passes only the policies that were entered", three(decide=answering()), reply_of_b),
    Story(
        "the reply of the outermost passes it alone",
        lambda log: [Probe("a", log, decide=answering()), Probe("b", log)],
        lambda played: _equal(played.log, [("a", "decide"), ("a", "on_response", 403), ("a", "observe", 403, "client")]),
    ),
    Story(
        "a reply has its own body and headers",
        one(decide=answering(302, "moved", headers=[("Location", "/x")], body=b"there")),
        lambda played: _equal(
            (played.response.status, played.response.header("location"), played.response.body), (302, "/x", b"there")
        ),
    ),
    Story(
        "a HEAD gets the head of a reply and no body",
        one(decide=answering()),
        lambda played: _equal((played.response.status, played.response.body), (403, b"")),
        request={"method": "HEAD"},
    ),
    Story(
        "an error of the app passes on_response like any response",
        one(),
        lambda played: _equal(played.log, [("a", "decide"), ("a", "on_response", 503), ("a", "observe", 503, "app")]),
        app={"status": 503},
    ),
    Story("on_response sets a header", one(on_response=lambda _, head: head.set("X-A", "1")), header_of("x-a", "1")),
    Story(
        "on_response appends a cookie",
        one(on_response=lambda _, head: head.append("Set-Cookie", "b=2")),
        header_of("set-cookie", "a=1", "b=2"),
        app={"headers": [(b"set-cookie", b"a=1")]},
    ),
    Story(
        "on_response removes a header",
        one(on_response=lambda _, head: head.remove("X-Powered-By")),
        header_of("x-powered-by"),
        app={"headers": [(b"x-powered-by", b"php")]},
    ),
    Story(
        "on_response changes the status",
        one(on_response=status_of(202)),
        lambda played: _equal((played.response.status, played.calls("observe")), (202, [("a", 202, "nobody")])),
    ),
    Story(
        "respond_with sets a header on the app's response",
        one(decide=lambda exchange: exchange.respond_with("X-Queued", "1")),
        header_of("x-queued", "1"),
        app={"headers": [(b"x-queued", b"of the app")]},
    ),
    Story(
        "respond_with sets a header on a reply of a later policy",
        lambda log: [
            Probe("a", log, decide=lambda exchange: exchange.respond_with("X-Queued", "1")),
            Probe("b", log, decide=answering()),
        ],
        header_of("x-queued", "1"),
    ),
    Story(
        "an outer policy's on_response sees what an inner one queued",
        lambda log: [
            Probe("a", log, on_response=lambda _, head: head.set("x-queued", f"{head.get('x-queued')}, seen")),
            Probe("b", log, decide=lambda exchange: exchange.respond_with("X-Queued", "1")),
        ],
        header_of("x-queued", "1, seen"),
    ),
    Story(
        "a body that a policy asked for is in hand and is replayed",
        one(needs_body=64, decide=lambda exchange: _equal(exchange.body.data, b"hello body")),
        replayed,
        app={"reads": True},
        request={"method": "POST", "body": b"hello body"},
    ),
    Story(
        "a body no policy asked for reaches the app",
        one(),
        replayed,
        app={"reads": True},
        request={"method": "POST", "body": b"hello body"},
    ),
    Story(
        "a body over the cap is 413", one(needs_body=4), too_large, request={"method": "POST", "body": b"hello"}
    ),
    Story(
        "a policy that raises in decide is a 500",
        three(decide=failing),
        failed(500, [("b", 500), ("a", 500)]),
    ),
    Story(
        "a policy that raises in on_response is a 500 instead of the app's response",
        three(on_response=failing),
        failed(500, [("c", 200), ("b", 200), ("a", 500)]),
    ),
    Story(
        "a policy that raises in on_response of its own reply is a 500",
        three(decide=answering(), on_response=failing),
        failed(500, [("b", 403), ("a", 500)]),
    ),
    Story(
        "every policy raising in on_response still ends in one 500",
        lambda log: [Probe("a", log, on_response=failing), Probe("b", log, on_response=failing)],
        failed(500, [("b", 200), ("a", 500)]),
    ),
    Story(
        "a policy that raises in observe disturbs nobody",
        three(observe=failing),
        everything_in_order,
    ),
    Story(
        "what a policy requires and nobody provided is a 500",
        lambda log: [Probe("a", log), Probe("b", log, requires=frozenset({"identity"})), Probe("c", log)],
        missing,
    ),
    Story(
        "what a policy requires and one before it provided is there",
        lambda log: [
            Probe("a", log, decide=identify, provides=frozenset({"identity"})),
            Probe("b", log, requires=frozenset({"identity"})),
        ],
        identified,
    ),
    Story("the app finds the identity", one(decide=identify), identified),
    Story(
        "what a policy did to the request headers is what the app gets",
        one(decide=change_headers),
        mutated,
        request={"headers": {"X-Set": "old", "X-Gone": "1", "X-Kept": "1"}},
    ),
    Story("the app gets the canonical path", one(), canonical, request={"target": "/a/b/../c%20%c3%a9?q=%41"}),
    Story(
        "the app gets a rewritten target",
        one(decide=lambda exchange: exchange.rewrite(path=b"/v2/./x", query=b"a=b")),
        rewritten,
        request={"target": "/v1/x?y=z"},
    ),
    Story("a bad path runs the policies", three(), door(400, "door.bad_path"), request={"target": "/a%00b"}),
    Story("an odd path runs the policies", three(), door(400, "door.odd_path"), request={"target": "/a%2fb"}),
    Story("a bad Host runs the policies", three(), door(400, "door.bad_host"), request={"headers": {"Host": "a/b"}}),
    Story(
        "too many headers run the policies",
        three(),
        door(431, "door.headers_too_large"),
        request={"headers": {f"x-{number}": "1" for number in range(120)}},
    ),
    Story("an exception of the app is raised unchanged", three(), app_error(BROKE, None), app={"raises": BROKE}),
    Story(
        "an exception in the body is raised unchanged",
        three(),
        app_error(BROKE_LATE, 200),
        app={"raises": BROKE_LATE, "raises_at": "body", "headers": []},
    ),
    Story(
        "a client that leaves in the middle is a 499",
        three(),
        left_in_the_middle,
        app={"chunks": [b"1", b"2", b"3"], "headers": [], "waits_for_disconnect": True},
        request={"leaves_after": 1},
    ),
    Story("policies without any hook leave everything alone", lambda log: [Bare()], lambda played: _equal(
        (played.response.status, played.response.body, len(played.seen)), (200, b"ok", 1))),
]  # fmt: skip


class Bare(Spec):
    """A policy with no hook at all."""


def _equal(left: Any, right: Any) -> None:
    assert left == right


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_story(story: Story, stage: Any) -> None:
    story.expect(await stage.play(story.policies, story.app, **story.request))


async def test_the_frozen_stage_would_notice_a_clock(frozen_without_ports: Any) -> None:
    """Without injected ports the same story does ask the process's clock, so the frozen stories can fail."""
    played = await frozen_without_ports.play(one(), options={"ports": None})
    assert "though ports were injected" in str(played.response.error)
