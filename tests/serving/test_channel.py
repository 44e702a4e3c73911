"""What supervisor and worker say to each other: questions and answers both ways, and what happens when one is gone."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.serving.channel import Answering, Channel, PeerGone

BOUND = 10.0


async def echo(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"what": what, "about": dict(about)}


@asynccontextmanager
async def pair(left: Answering = echo, right: Answering = echo) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two ends that talk to each other."""
    one, other = socket.socketpair()
    ends = Channel(one, left), Channel(other, right)
    for sock in (one, other):
        sock.setblocking(False)
    for end in ends:
        await end.open()
    try:
        yield ends
    finally:
        for end in ends:
            await closed(end)


async def closed(end: Channel) -> None:
    await end.close()
    await asyncio.wait_for(end.closed.wait(), BOUND)


@asynccontextmanager
async def wire(answering: Answering = echo) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel, and the bare socket at its other end."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    channel = Channel(one, answering)
    await channel.open()
    try:
        yield channel, other
    finally:
        other.close()
        await closed(channel)


async def lines_of(sock: socket.socket, count: int) -> list[Any]:
    loop = asyncio.get_running_loop()
    text = b""
    while text.count(b"\n") < count:
        text += await asyncio.wait_for(loop.sock_recv(sock, 65536), BOUND)
    return [json.loads(line) for line in text.splitlines()]


async def line_of(sock: socket.socket) -> Any:
    return (await lines_of(sock, 1))[0]


async def test_both_ask_and_both_answer() -> None:
    async with pair() as (left, right):
        assert await left.ask("ping", timeout=BOUND) == {"what": "ping", "about": {}}
        assert await right.ask("status", timeout=BOUND, deep=True) == {"what": "status", "about": {"deep": True}}


async def test_answers_come_to_their_questions_in_whatever_order() -> None:
    gates = {number: asyncio.Event() for number in range(4)}

    async def slow(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        await gates[about["number"]].wait()
        return {"number": about["number"]}

    async with pair(right=slow) as (left, _):
        asked = [asyncio.create_task(left.ask("x", timeout=BOUND, number=number)) for number in range(4)]
        for number in (2, 0, 3, 1):
            gates[number].set()
            assert await asyncio.wait_for(asked[number], BOUND) == {"number": number}


async def test_what_is_told_needs_no_answer_and_comes_in_order() -> None:
    heard: list[Any] = []
    last = asyncio.Event()

    async def hear(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        heard.append((what, dict(about)))
        if what == "last":
            last.set()
        return {"ignored": True}

    async with wire(hear) as (channel, other), pair(right=hear) as (left, _):
        for number in range(50):
            left.tell("one", number=number)
        left.tell("last")
        await asyncio.wait_for(last.wait(), BOUND)
        assert heard == [*(("one", {"number": number}) for number in range(50)), ("last", {})]
        channel.tell("ready", routes=3)
        assert await line_of(other) == {"ask": "ready", "about": {"routes": 3}}


async def test_what_answering_raises_is_the_answer() -> None:
    async def broken(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        raise LookupError(f"no {what}")

    async with pair(right=broken) as (left, _):
        assert await left.ask("thing", timeout=BOUND) == {"error": "LookupError: no thing"}


async def test_no_answer_in_time_is_said_and_a_late_one_is_ignored() -> None:
    gate = asyncio.Event()

    async def late(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        if what == "slow":
            await gate.wait()
        return {"answer": what}

    async with pair(right=late) as (left, _):
        with pytest.raises(PeerGone, match=r"no answer to 'slow' within 0.01 s"):
            await left.ask("slow", timeout=0.01)
        gate.set()
        assert await left.ask("quick", timeout=BOUND) == {"answer": "quick"}


async def test_when_one_is_gone_the_others_questions_fail_at_once() -> None:
    asked = asyncio.Event()

    async def never(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    async with pair(right=never) as (left, right):
        questions = [asyncio.create_task(left.ask("x", timeout=600.0)) for _ in range(3)]
        await asyncio.wait_for(asked.wait(), BOUND)
        await right.close()
        for question in questions:
            with pytest.raises(PeerGone, match="gone"):
                await asyncio.wait_for(question, BOUND)
        assert left.closed.is_set()
        with pytest.raises(PeerGone, match="gone"):
            await left.ask("again", timeout=600.0)
        left.tell("nobody")


async def test_a_channel_that_was_not_opened_asks_nobody() -> None:
    one, other = socket.socketpair()
    with one, other:
        channel = Channel(one, echo)
        with pytest.raises(PeerGone):
            await channel.ask("x", timeout=BOUND)
        channel.tell("x")
        await channel.close()


async def test_whoever_answers_may_close() -> None:
    """`stop` ends the conversation from within its own answer."""
    ends: list[Channel] = []

    async def closing(what: str, about: Mapping[str, Any]) -> Mapping[str, Any]:
        await ends[1].close()
        return {}

    async with pair(right=closing) as both:
        ends.extend(both)
        with pytest.raises(PeerGone):
            await both[0].ask("stop", timeout=BOUND)


async def test_a_configuration_of_some_megabytes_fits() -> None:
    large = {"routes": ["/" + "x" * 1000] * 4000}
    async with pair() as (left, _):
        answer = await left.ask("prepare", timeout=BOUND, document=large)
        assert answer["about"]["document"] == large


async def test_a_message_may_come_in_pieces() -> None:
    async with wire() as (_, other):
        loop = asyncio.get_running_loop()
        for piece in (b'{"ask":"pi', b'ng","number":7,', b'"about":{}}\n{"ask"', b':"x","number":8,"about":{"a":1}}\n'):
            await loop.sock_sendall(other, piece)
        assert [answer["number"] for answer in await lines_of(other, 2)] == [7, 8]


async def test_an_answer_to_nothing_is_ignored() -> None:
    async with wire() as (channel, other):
        loop = asyncio.get_running_loop()
        question = asyncio.create_task(channel.ask("x", timeout=BOUND))
        asked = await line_of(other)
        await loop.sock_sendall(other, b'{"number":99,"answer":{"wrong":1}}\n')
        await loop.sock_sendall(other, b'{"number":%d,"answer":{"right":1}}\n' % asked["number"])
        await loop.sock_sendall(other, b'{"number":%d,"answer":{"twice":1}}\n' % asked["number"])
        assert await asyncio.wait_for(question, BOUND) == {"right": 1}


@pytest.mark.parametrize("garbage", [b"\n", b"nonsense\n", b"\xff\xfe\n", b"{\n", b'{"ask"'], ids=repr)
async def test_garbage_ends_the_conversation(garbage: bytes) -> None:
    async with wire() as (channel, other):
        question = asyncio.create_task(channel.ask("x", timeout=600.0))
        await line_of(other)
        await asyncio.get_running_loop().sock_sendall(other, garbage)
        other.close()
        with pytest.raises(PeerGone):
            await asyncio.wait_for(question, BOUND)
        assert channel.closed.is_set()


content = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.tuples(st.text(), content), min_size=1, max_size=5))
def test_whatever_json_can_say_arrives_as_it_was_said(messages: list[tuple[str, Any]]) -> None:
    async def scene() -> None:
        async with pair() as (left, _):
            answers = await asyncio.gather(*(left.ask(what, timeout=BOUND, given=about) for what, about in messages))
            assert answers == [{"what": what, "about": {"given": about}} for what, about in messages]

    run: Callable[..., None] = asyncio.run
    run(scene())
