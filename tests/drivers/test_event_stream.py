"""Event streams on their way through: where they may be ended, and that they are ended nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Fault, Grade
from gatekit.core.policy import Spec
from gatekit.drivers.event_stream import COMMENT, Boundary
from gatekit.drivers.flights import end
from gatekit.errors import ResponseTruncated, UpstreamError

STREAM = [(b"content-type", b"text/event-stream")]


class Quoting(Spec):
    """A filter of event streams: it holds a part back and gives it at the next one or at the end."""

    kind = "quoting"
    filters_event_streams: ClassVar[bool] = True

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> Holding:
        head.set("content-encoding", "held")
        return Holding()


class Holding:
    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        given, self.held = self.held, data.upper()
        return given

    def finish(self) -> bytes:
        return self.held + b"!"


@pytest.mark.parametrize(
    ("parts", "here"),
    [
        ([], True),
        ([b"data: 1\n\n"], True),
        ([b"data: 1\r\n\r\n"], True),
        ([b"data: 1\r\r"], True),
        ([b"data: 1\n\r\n"], True),
        ([b"data: 1\r\n\n"], True),
        ([b"data: 1\r\r\n"], True),
        ([b"data: 1\n", b"\n"], True),
        ([b"data: 1\r", b"\n", b"\r", b"\n"], True),
        ([b"data: 1\r", b"\r"], True),
        ([b"\n"], True),
        ([b"data: 1\n\n", b"\n"], True),
        ([b"data: 1\n"], False),
        ([b"data: 1\r\n"], False),
        ([b"data: 1\r"], False),
        ([b"data: 1\r\n\r"], False),
        ([b"data: 1\n\r"], False),
        ([b"d"], False),
        ([b"data: 1\n\n", b"data"], False),
        ([b"data: 1\n\n", b":"], False),
        ([b"data: 1\n", b"x\n"], False),
    ],
    ids=repr,
)
def test_a_boundary_is_an_empty_line(parts: list[bytes], here: bool) -> None:
    boundary = Boundary()
    for part in parts:
        boundary.add(part)
    assert boundary.here is here


@pytest.mark.parametrize(
    ("before", "part", "passes"),
    [
        (b"data: 1", b"\n\ndata: 2", 2),
        (b"data: 1\n", b"\ndata: 2\n\ndata: 3\n", 10),
        (b"data: 1\r\n", b"\r\nid", 2),
        (b"data: 1\r\n\r", b"\nid", 1),
        (b"data: 1\r", b"\r\nid", 2),
        (b"data: 1", b"more", 0),
        (b"data: 1\n\n2", b"more\n", 0),
    ],
    ids=repr,
)
def test_a_part_passes_up_to_its_last_boundary(before: bytes, part: bytes, passes: int) -> None:
    boundary = Boundary()
    boundary.add(before)
    assert boundary.last_in(part) == passes


PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\r",
        b"data: x",
        b":",
        b"id: 1\n",
        b"event: \xc3\xa9",
        b"\xef\xbb\xbf",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], int]:
    """A stream in parts, and how many of them have been sent when it is asked to end."""
    whole = b"".join(draw(st.lists(PIECES, min_size=1, max_size=30)))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=12)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if whole[a:b]]
    return parts, draw(st.integers(0, len(parts)))


def ends_in_an_empty_line(data: bytes) -> bool:
    """By the letter of the specification, an unfinished CRLF taken for nothing: the last line that was ended is empty."""
    if not data:
        return True
    if data.endswith(b"\r") and not data.endswith(b"\r\r"):
        return False
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return lines.endswith(b"\n\n") or lines == b"\n"


class Paced:
    """A destination whose parts come when `told`; it is asked to end before the part of that number."""

    name = "paced"
    status = 200

    def __init__(self, parts: list[bytes | Exception], headers: list[tuple[bytes, bytes]] = STREAM) -> None:
        self.parts = list(parts)
        self.headers = list(headers)
        self.trailers: list[tuple[bytes, bytes]] = []
        self.closed = 0
        self.reading: asyncio.Future[bytes] | None = None
        self.asked = asyncio.Event()

    async def open(self, exchange: Exchange) -> Paced:
        return self

    def take(self) -> tuple[bytes, bool]:
        return b"", False

    async def read(self) -> bytes:
        self.reading = asyncio.get_running_loop().create_future()
        self.asked.set()
        return await self.reading

    async def give(self, part: bytes | Exception) -> None:
        """Once the driver waits for it; nothing, if it never does again."""
        await self.asked.wait()
        self.asked.clear()
        assert self.reading is not None
        if isinstance(part, Exception):
            self.reading.set_exception(part)
        else:
            self.reading.set_result(part)

    def close(self) -> None:
        self.closed += 1


async def played(driver: Any, got: Any, destination: Paced, before: int) -> BaseException | None:
    """Run a stream; it is asked to end once `before` parts are through."""
    running: asyncio.Future[Any] = asyncio.ensure_future(got.run(driver))
    for number, part in enumerate([*destination.parts, b""]):
        waiting = asyncio.ensure_future(destination.asked.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            break
        if number == before:
            for out in driver.flights.now():
                if end(out):
                    break
            else:
                await destination.give(part)
            continue
        await destination.give(part)
    async with asyncio.timeout(5):
        await asyncio.wait((running,))
    return running.exception()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=streams())
async def test_a_stream_ends_at_a_boundary_or_whole(driver: Any, server: Any, case: tuple[list[bytes], int]) -> None:
    parts, before = case
    destination = Paced([*parts])
    one, got = driver(destination), server()
    assert await played(one, got, destination, before) is None
    whole = b"".join(parts)
    assert got.sent[-1]["more_body"] is False
    if got.body.endswith(COMMENT):
        sent = got.body.removesuffix(COMMENT)
        assert whole.startswith(sent)
        assert len(sent) >= len(b"".join(parts[:before]))
        assert ends_in_an_empty_line(sent)
    else:
        assert got.body == whole
    assert destination.closed == 1
    assert one.active == 0


async def test_an_ended_stream_is_nobodys_failure(driver: Any, server: Any, log: Any) -> None:
    destination = Paced([b"data: 1\n\n", b"data: 2\n\n"])
    got = server()
    assert await played(driver(destination), got, destination, 1) is None
    assert [(m["body"], m["more_body"]) for m in got.sent[1:]] == [(b"data: 1\n\n", True), (COMMENT, False)]
    assert destination.closed == 1
    outcomes = [entry[2] for entry in log if entry[0] == "observe"]
    assert [(one.status, one.reason, one.fault, one.grade, one.complete) for one in outcomes] == [
        (200, "gateway.draining", Fault.NOBODY, Grade.IGNORE, True)
    ]


async def test_a_stream_is_ended_once(driver: Any, server: Any) -> None:
    destination = Paced([])
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    await destination.asked.wait()
    assert [end(out) for out in one.flights.now()] == [True]
    assert [end(out) for out in one.flights.now()] == [False]
    got.on_send = lambda message: told.extend(end(out) for out in one.flights.now())
    told: list[bool] = []
    await running
    assert [m["body"] for m in got.sent[1:]] == [COMMENT]
    assert told == [False]


async def test_a_stream_inside_an_event_goes_on_to_its_end(driver: Any, server: Any) -> None:
    destination = Paced([b"data: 1", b"\ndata: 2\n", b"\nid: 3\ndata", b": 4\n\n"])
    got = server()
    assert await played(driver(destination), got, destination, 1) is None
    assert [m["body"] for m in got.sent[1:]] == [b"data: 1", b"\ndata: 2\n", b"\n", COMMENT]


async def test_what_has_arrived_already_is_not_waited_for(driver: Any, fake: Any, server: Any) -> None:
    destination = fake([b"data: 1\n", b"\ndata: 2\n\n", b"data: 3\n\n", b"more"], headers=STREAM)
    one, got = driver(destination), server()

    def ask(message: Any) -> None:
        if message.get("body") == b"data: 1\n":
            assert [end(out) for out in one.flights.now()] == [False]

    got.on_send = ask
    await got.run(one)
    assert [m["body"] for m in got.sent[1:]] == [b"data: 1\n", b"\ndata: 2\n\n", COMMENT]
    assert got.sent[-1]["more_body"] is False


async def test_the_upstreams_own_end_stands(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([b"data: 1\n", b"\ndata: 2\n\nid"], headers=STREAM)
    one, got = driver(destination), server()
    got.on_send = lambda message: [end(out) for out in one.flights.now()]
    await got.run(one)
    assert (got.body, got.sent[-1]["more_body"]) == (b"data: 1\n\ndata: 2\n\nid", False)
    assert (log[-1][2].reason, log[-1][2].grade) == (None, Grade.GOOD)


async def test_an_upstream_that_breaks_off_while_it_is_to_end(driver: Any, server: Any, log: Any) -> None:
    destination = Paced([b"data: 1", UpstreamError("upstream.truncated", "closed", began=True)])
    got = server()
    assert isinstance(await played(driver(destination), got, destination, 1), ResponseTruncated)
    assert all(message.get("more_body", True) for message in got.sent)
    assert (log[-1][2].reason, log[-1][2].fault) == ("upstream.truncated", Fault.UPSTREAM)


async def test_a_filter_gets_the_comment_and_its_finish(driver: Any, server: Any) -> None:
    destination = Paced([b"data: 1\n\n", b"data: 2\n\n"])
    got = server()
    assert await played(driver(destination, Quoting()), got, destination, 1) is None
    assert [(m["body"], m["more_body"]) for m in got.sent[1:]] == [(b"DATA: 1\n\n" + COMMENT.upper() + b"!", False)]


@pytest.mark.parametrize(
    ("method", "headers", "specs"),
    [
        ("GET", [(b"content-type", b"text/plain")], ()),
        ("GET", [*STREAM, (b"content-length", b"1000")], ()),
        ("GET", [*STREAM, (b"content-encoding", b"gzip")], ()),
        ("GET", [*STREAM, (b"content-encoding", b"gzip")], (Quoting(),)),
        ("HEAD", STREAM, ()),
    ],
    ids=["no event stream", "with a length", "encoded", "encoded and filtered", "no body"],
)
async def test_other_responses_are_not_ended(
    driver: Any, server: Any, method: str, headers: Any, specs: tuple[Spec, ...]
) -> None:
    destination = Paced([], headers)
    one, got = driver(destination, *specs), server()
    running = asyncio.ensure_future(got.run(one, method))
    for part in (b"data: 1\n\n", b"data: 2\n\n", b""):
        await destination.asked.wait()
        assert [end(out) for out in one.flights.now()] == [False]
        await destination.give(part)
    await running
    assert got.sent[-1] == {"type": "http.response.body", "body": got.sent[-1]["body"], "more_body": False}
    assert COMMENT not in got.body
    assert COMMENT.upper() not in got.body


async def test_the_client_leaves_while_its_stream_is_ended(driver: Any, server: Any, log: Any) -> None:
    """Both cancel the task in the same turn of the loop: it is the client that counts."""
    destination = Paced([])
    one, got = driver(destination), server()
    running = asyncio.ensure_future(got.run(one))
    await destination.asked.wait()
    assert [end(out) for out in one.flights.now()] == [True]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (log[-1][2].status, destination.closed, one.active) == (499, 1, 0)
