"""The WSGI driver before a destination: the answer is read part by part on a loop thread."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.policy import Spec
from gatekit.drivers.wsgi import WsgiDriver, run_now
from gatekit.errors import PolicySuspended, ResponseTruncated, UpstreamError
from gatekit.gateway.loop_thread import LoopThread


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.stop()


class Upper(Spec):
    kind = "upper"

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> Upper:
        return self

    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


class FailOnResponse(Spec):
    kind = "fail"

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        raise ValueError("no")


def environ(method: str = "GET", body: bytes = b"", **more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method, "wsgi.url_scheme": "http", "REMOTE_ADDR": "192.0.2.1", "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/x", "SCRIPT_NAME": "", "QUERY_STRING": "", "HTTP_HOST": "h", "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)) if body else "", **more,
    }  # fmt: skip


class Start:
    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers


def driver_of(plan_of: Any, record: Any, log: Any, loop_thread: Any, destination: Any, *specs: Spec) -> WsgiDriver:
    return WsgiDriver(
        plan_of(record(log=log), *specs, destination=destination), now=lambda: 0.0, loop_thread=lambda: loop_thread
    )


def test_an_answer_is_relayed(plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any) -> None:
    start = Start()
    destination = fake([b"a", b"b"], headers=[(b"x-a", b"1")])
    parts = driver_of(plan_of, record, log, loop_thread, destination)(environ(), start)
    assert list(parts) == [b"a", b"b"]
    parts.close()  # type: ignore[attr-defined]
    loop_thread.run(_nothing())
    assert (start.status, start.headers) == ("200 OK", [("x-a", "1")])
    assert destination.responses[0].closed == 1
    assert log[-1][2].complete


async def _nothing() -> None:
    """A round trip through the loop: what was scheduled before it has run."""


def test_the_body_reaches_the_destination(
    plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any
) -> None:
    destination = fake()
    list(driver_of(plan_of, record, log, loop_thread, destination)(environ("POST", b"abc"), Start()))
    assert destination.bodies == [b"abc"]


def test_filters_work(plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any) -> None:
    parts = driver_of(plan_of, record, log, loop_thread, fake([b"a", b"b"]), Upper())(environ(), Start())
    assert b"".join(parts) == b"AB!"


def test_no_answer_is_502(plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any) -> None:
    start = Start()
    error = UpstreamError("upstream.connect_failed", "10.0.0.1")
    body = b"".join(driver_of(plan_of, record, log, loop_thread, fake(error=error))(environ(), start))
    assert start.status == "502 Bad Gateway"
    assert b"10.0.0.1" not in body
    assert log[-1][2].reason == "upstream.connect_failed"


def test_a_broken_body_raises(plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any) -> None:
    parts = driver_of(plan_of, record, log, loop_thread, fake([UpstreamError("upstream.truncated", "x")]))(
        environ(), Start()
    )
    with pytest.raises(ResponseTruncated):
        list(parts)
    assert log[-1][2].reason == "upstream.truncated"


def test_a_client_that_leaves_closes_the_response(
    plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any
) -> None:
    destination = fake([b"a", b"b", b"c"])
    parts = driver_of(plan_of, record, log, loop_thread, destination)(environ(), Start())
    assert next(iter(parts)) == b"a"
    parts.close()  # type: ignore[attr-defined]
    parts.close()  # type: ignore[attr-defined]
    loop_thread.run(_nothing())
    assert destination.responses[0].closed == 1
    assert log[-1][2].status == 499


def test_a_client_that_left_while_it_sent(
    plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any
) -> None:
    """Half a body is no body: the destination is not given it as if it were whole."""
    start, destination = Start(), fake()
    driver = driver_of(plan_of, record, log, loop_thread, destination)
    assert list(driver(environ("POST", b"abc", CONTENT_LENGTH="9"), start)) == []
    assert start.status == "400 Bad Request"
    assert destination.responses == []
    assert log[-1][2].status == 499


def test_a_failing_hook_replaces_the_answer(
    plan_of: Any, record: Any, log: Any, loop_thread: LoopThread, fake: Any
) -> None:
    start = Start()
    destination = fake([b"secret"])
    body = b"".join(driver_of(plan_of, record, log, loop_thread, destination, FailOnResponse())(environ(), start))
    loop_thread.run(_nothing())
    assert start.status == "500 Internal Server Error"
    assert b"secret" not in body
    assert destination.responses[0].closed == 1


def test_a_driver_without_a_loop_thread_says_so(plan_of: Any, fake: Any) -> None:
    with pytest.raises(RuntimeError, match="loop thread"):
        WsgiDriver(plan_of(destination=fake()), now=lambda: 0.0)(environ(), Start())


def test_no_app_and_no_destination(plan_of: Any) -> None:
    start = Start()
    assert b"router.no_destination" in b"".join(WsgiDriver(plan_of(), now=lambda: 0.0)(environ(), start))


def test_what_suspends_is_closed_and_named() -> None:
    closed: list[str] = []

    class Forever:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def suspending() -> None:
        try:
            await Forever()
        finally:
            closed.append("closed")

    with pytest.raises(PolicySuspended):
        run_now(suspending())
    assert closed == ["closed"]


@pytest.mark.parametrize(
    ("more", "raw"),
    [
        ({"RAW_URI": "/a%2Fb?x=1", "PATH_INFO": "/a/b"}, b"/a%2Fb"),
        ({"REQUEST_URI": "http://h/a%20b", "PATH_INFO": "/a b"}, b"/a%20b"),
        ({"RAW_URI": "/a", "PATH_INFO": "/changed"}, b"/changed"),
        ({"RAW_URI": "/m/a", "SCRIPT_NAME": "/m", "PATH_INFO": "/a"}, b"/a"),
        ({"RAW_URI": "/m", "SCRIPT_NAME": "/m", "PATH_INFO": ""}, b"/"),
        ({"RAW_URI": "/%6d/a", "SCRIPT_NAME": "/m", "PATH_INFO": "/a"}, b"/a"),
        ({"PATH_INFO": "/\xc3\xa9"}, b"/%C3%A9"),
        ({"PATH_INFO": "/\xff%"}, b"/%FF%25"),
        ({"PATH_INFO": ""}, b"/"),
    ],
)
def test_the_raw_path_comes_from_where_the_server_tells_it(more: dict[str, Any], raw: bytes) -> None:
    from gatekit.drivers.wsgi_environ import raw_path_of

    assert raw_path_of({**environ(), **more}) == raw
