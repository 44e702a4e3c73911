"""Every fault at every point of an exchange: something final comes of it, and nothing is left behind.

A case that fails is printed as an expression; put it into `KNOWN` to have it for good.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from gatekit.testing import TestResponse
from gatekit.testing.faults import Close, Direction, Drip, Fault, Garble, HalfClose, Refuse, Reset, Stall, Truncate

from .drill import Case, reference_of, run, run_queued, run_without_a_port
from .shapes import SHAPES

DRAWN = sorted(SHAPES.keys() - {"upload-huge"})
"""What is drawn from; the huge one would take all the time."""
HONEST = [shape for shape in DRAWN if shape != "surplus"]
"""Without the upstream that sends more than it said: what comes late is taken for the answer to a request that has been
sent meanwhile, and over one connection nobody can tell."""
OK = len(b"HTTP/1.1 200 OK\r\n")
INTERIM = len(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n")
LENGTH = OK + len(b"content-length: ")


def drill(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def points(draw: DrawFn, shape: str) -> tuple[Direction, int, int]:
    """A direction, a number of its bytes, and how many follow."""
    directions: tuple[Direction, ...] = ("response", "request")
    direction = draw(st.sampled_from(directions))
    length: int = getattr(reference_of(shape), direction)
    after = draw(st.integers(0, length) | st.sampled_from((0, length - 1, length)))
    return direction, after, length - after


@st.composite
def cuts(draw: DrawFn, shape: str) -> Fault:
    direction, after, _ = draw(points(shape))
    kind = draw(st.sampled_from((Reset, Close, HalfClose, Truncate)))
    return kind(direction, after)


@st.composite
def stalls(draw: DrawFn, shape: str) -> Fault:
    direction, after, _ = draw(points(shape))
    return Stall(direction, after, both=draw(st.booleans()))


@st.composite
def drips(draw: DrawFn, shape: str) -> Drip:
    direction, after, left = draw(points(shape))
    return Drip(direction, after, draw(st.integers(max(left // 150, 1), max(left, 1))))


@st.composite
def garbles(draw: DrawFn, shape: str) -> Fault:
    """Never beyond the exchange: the answer to the next request is not to be changed."""
    direction, after, left = draw(points(shape))
    after, left = (after, left) if left else (after - 1, 1)
    if draw(st.booleans()):
        fault = Garble(direction, after, draw(st.integers(1, 255)), count=draw(st.integers(1, min(left, 4))))
    else:
        # What framing is made of.
        replacement = draw(st.text("0159afHT/., :\r\n", min_size=1, max_size=min(left, 3)))
        fault = Garble(direction, after, replace=replacement.encode())
    return fault


@st.composite
def cases(
    draw: DrawFn, faults: Callable[[str], SearchStrategy[Fault]], shapes: list[str] = DRAWN, kept: bool = True
) -> Case:
    """`kept`: the connection may be one that has served already."""
    shape = draw(st.sampled_from(shapes))
    fault = draw(faults(shape))
    warm = kept and (fault.direction == "response" or fault.after > 0) and draw(st.booleans())
    return Case(shape, fault, warm, draw(st.none() | drips(shape)))


@given(case=cases(cuts))
@drill(350)
def test_a_connection_that_is_cut_anywhere(case: Case) -> None:
    run(case)


@given(case=cases(cuts, HONEST, kept=False))
@drill(100)
def test_a_request_that_waits_behind_one_that_is_cut(case: Case) -> None:
    run_queued(case)


@given(case=cases(stalls))
@drill(200)
def test_a_connection_that_stalls_anywhere(case: Case) -> None:
    run(case)


@given(case=cases(drips))
@drill(80)
def test_bytes_that_come_in_small_pieces(case: Case) -> None:
    run(case)


@given(case=cases(garbles))
@drill(250)
def test_bytes_that_are_changed_anywhere(case: Case) -> None:
    run(case)


@pytest.mark.parametrize("shape", DRAWN)
def test_a_connection_that_is_refused_by_reset(shape: str) -> None:
    response = run(Case(shape, Refuse()))
    assert response.status == 502


@pytest.mark.parametrize("shape", DRAWN)
def test_a_connection_that_is_refused_by_the_port(shape: str) -> None:
    response = run_without_a_port(shape)
    assert (response.status, outcome(response)) == (502, "none" if shape == "head" else "upstream.connect_failed")


KNOWN = [
    (Case("length", Reset("response", 60)), "cut"),
    (Case("length", Truncate("response", 60)), "cut"),
    (Case("chunked", HalfClose("response", 60)), "cut"),
    (Case("trailers", Close("response", 90)), "cut"),
    (Case("until-close", Close("response", 60)), "24 bytes"),
    (Case("until-close", Reset("response", 60)), "cut"),
    (Case("upload-chunked", Close("request", 280)), "upstream.closed"),
    (Case("upload-huge", Reset("request", 1_000_000)), "upstream.closed"),
    (Case("upload-huge", Stall("request", 1_000_000)), "upstream.idle_timeout"),
    (Case("early", Stall("response", 10)), "body.too_slow"),
    (Case("early-chunked", Reset("response", 10)), "upstream.closed"),
    (Case("post", Stall("request", 10)), "upstream.timeout"),
    (Case("interim", Stall("response", 60)), "upstream.timeout"),
    (Case("length", Stall("response", 60)), "cut"),
    (Case("length", Reset("request", 5), warm=True), "285 bytes"),
    (Case("put", Reset("request", 260), warm=True), "upstream.closed"),
    (Case("post", Reset("request", 5), warm=True), "upstream.closed"),
    (Case("upload", Reset("request", 5), warm=True), "upstream.closed"),
    (Case("length", Garble("response", 9, replace=b"999")), "upstream.bad_response"),
    (Case("length", Garble("response", 9, replace=b"204")), "0 bytes"),
    (Case("length", Garble("response", LENGTH, replace=b"100")), "100 bytes"),
    (Case("length", Garble("response", LENGTH, replace=b"999")), "cut"),
    (Case("nested", Garble("response", LENGTH, replace=b"044")), "44 bytes"),
    (Case("large", Garble("response", LENGTH, replace=b"100000")), "100000 bytes"),
    (
        Case("nested", Garble("response", LENGTH, replace=b"044"), drip=Drip("response", LENGTH + 7 + 44, 50)),
        "44 bytes",
    ),
    (Case("large", Garble("response", 9, replace=b"304")), "0 bytes"),
    (Case("head", Garble("request", 0, replace=b"POST")), "0 bytes"),
    (Case("chunked", Garble("response", OK, replace=b"x")), "cut"),
]


@pytest.mark.parametrize(("case", "expected"), KNOWN, ids=str)
def test_what_comes_of_it(case: Case, expected: str) -> None:
    assert outcome(run(case)) == expected


def outcome(response: TestResponse) -> str:
    """The reason of a refusal, how long a whole body was, or `cut`."""
    if not response.complete:
        return "cut"
    if response.header("content-type") == "application/problem+json":
        return str(response.json()["code"]) if response.body else "none"
    return f"{len(response.body)} bytes"
