"""The stories of policies that change response bodies, played under ASGI and under WSGI with the same expectations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.policy import Spec
from gatekit.core.verdict import Reply
from gatekit.testing import Log, Probe, Replacing


@dataclass
class Story:
    name: str
    policies: Callable[[Log], Sequence[Spec]]
    expect: Callable[[Any], None]
    app: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)


def one(**hooks: Any) -> Callable[[Log], list[Spec]]:
    return lambda log: [Probe("a", log, **hooks)]


def answering(exchange: Exchange) -> Reply:
    return Reply(200, "ours", body=b"mine")


def _equal(left: Any, right: Any) -> None:
    assert left == right


def filtered(played: Any) -> None:
    response = played.response
    assert response.body == b"ABCD!"
    assert response.header("content-length") is None
    assert response.header("etag") == 'W/"1"'
    assert response.header("accept-ranges") is None
    assert response.complete


def untouched_stream(played: Any) -> None:
    assert played.response.body == b"data: a\n\n"
    assert played.calls("body_filter") == []


def changed_stream(played: Any) -> None:
    assert played.response.body == b"DATA: A\n\n"


def head_filtered(played: Any) -> None:
    assert played.response.status == 200
    assert played.response.body == b""
    assert played.response.header("content-length") is None
    assert played.calls("observe") == [("a", 200, "nobody")]


SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]

STORIES = [
    Story(
        "a body filter changes every part and the tail",
        one(body_filter=lambda _, head: Replacing(tail=b"!")),
        filtered,
        app={
            "chunks": [b"ab", b"cd"],
            "headers": [(b"content-length", b"4"), (b"etag", b'"1"'), (b"accept-ranges", b"bytes")],
        },
    ),
    Story(
        "filters run innermost first",
        lambda log: [
            Probe("a", log, body_filter=lambda _, head: Replacing(lambda part: part + b"a", b"A")),
            Probe("b", log, body_filter=lambda _, head: Replacing(lambda part: part + b"b", b"B")),
        ],
        lambda played: _equal(played.response.body.endswith(b"BaA"), True),
        app={"chunks": [b"x"], "headers": []},
    ),
    Story(
        "a filter that declines leaves length and tag alone",
        one(body_filter=lambda _, head: None),
        lambda played: _equal(
            (played.response.header("content-length"), played.response.header("etag"), played.response.body),
            ("2", '"1"', b"ok"),
        ),
        app={"headers": [(b"content-length", b"2"), (b"etag", b'"1"')]},
    ),
    Story(
        "a filter sees the body of a reply",
        one(decide=answering, body_filter=lambda _, head: Replacing()),
        lambda played: _equal((played.response.body, played.response.header("content-length")), (b"MINE", None)),
    ),
    Story(
        "server-sent events are not filtered",
        one(body_filter=lambda _, head: Replacing()),
        untouched_stream,
        app={"chunks": [b"data: a\n\n"], "headers": SSE},
    ),
    Story(
        "server-sent events are filtered by a policy that declares it",
        one(body_filter=lambda _, head: Replacing(), filters_event_streams=True),
        changed_stream,
        app={"chunks": [b"data: a\n\n"], "headers": SSE},
    ),
    Story(
        "a HEAD that would be filtered has no length and no body",
        one(body_filter=lambda _, head: Replacing(tail=b"!")),
        head_filtered,
        app={"chunks": [], "headers": [(b"content-length", b"4")]},
        request={"method": "HEAD"},
    ),
    Story(
        "a 204 is not filtered",
        one(body_filter=lambda _, head: Replacing(tail=b"!")),
        lambda played: _equal((played.response.status, played.response.body), (204, b"")),
        app={"status": 204, "chunks": [], "headers": []},
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_story(story: Story, stage: Any) -> None:
    story.expect(await stage.play(story.policies, story.app, **story.request))
