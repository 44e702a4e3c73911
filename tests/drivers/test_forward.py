"""The ASGI driver in front of a destination: relaying, failing, cancelling, watching for a client that goes away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Fault, Grade
from gatekit.core.policy import Spec
from gatekit.errors import ResponseTruncated, UpstreamError


class Upper(Spec):
    kind = "upper"

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> Upper:
        return self

    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


class Broken(Spec):
    kind = "broken"
    place: str

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> Broken | None:
        return self if self.place == "filter" else None

    def feed(self, data: bytes) -> bytes:
        raise ValueError("no")

    def finish(self) -> bytes:
        return b""

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        if self.place == "response":
            raise ValueError("no")

    def on_trailers(self, exchange: Exchange, trailers: Headers) -> None:
        trailers.set("x-more", "1")


async def test_an_answer_is_relayed_part_by_part(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([b"one", b"two"], headers=[(b"x-a", b"1")])
    got = await server().run(driver(destination))
    assert [(m["type"], m.get("body"), m.get("more_body")) for m in got.sent] == [
        ("http.response.start", None, None),
        ("http.response.body", b"one", True),
        ("http.response.body", b"two", False),
    ]
    assert got.sent[0]["headers"] == [(b"x-a", b"1")]
    assert destination.responses[0].closed == 1
    (_, _, status), (_, _, outcome) = log
    assert (status, outcome.status, outcome.grade, outcome.complete) == (200, 200, Grade.GOOD, True)


async def test_a_body_that_has_to_be_waited_for_ends_with_an_empty_last_part(
    driver: Any, fake: Any, server: Any
) -> None:
    late = asyncio.get_running_loop().create_future()
    late.set_result(b"late")
    end = asyncio.get_running_loop().create_future()
    end.set_result(b"")
    got = await server().run(driver(fake([late, end])))
    assert [(m.get("body"), m.get("more_body")) for m in got.sent[1:]] == [(b"late", True), (b"", False)]


async def test_the_request_body_reaches_the_destination(driver: Any, fake: Any, server: Any) -> None:
    destination = fake()
    parts = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
    ]
    await server(*parts).run(driver(destination), "POST", [(b"transfer-encoding", b"chunked")])
    assert destination.bodies == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (UpstreamError("upstream.connect_failed", "10.0.0.1 refused"), 502, "upstream.connect_failed"),
        (UpstreamError("upstream.timeout", "10.0.0.1", status=504), 504, "upstream.timeout"),
        (ValueError("a bug"), 502, "upstream.failed"),
        (UpstreamError("request.bad_length", "10.0.0.1", status=400), 400, "request.bad_length"),
    ],
    ids=["refused", "timeout", "bug", "the client's own"],
)
async def test_no_answer_is_a_gateway_error_that_names_no_address(
    driver: Any, fake: Any, server: Any, log: Any, error: Exception, status: int, reason: str
) -> None:
    got = await server().run(driver(fake(error=error)))
    assert got.status == status
    assert reason.encode() in got.body
    assert b"10.0.0.1" not in got.body
    outcome = log[-1][2]
    ours = reason.startswith("request.")
    blamed = (Fault.CLIENT, Grade.IGNORE) if ours else (Fault.UPSTREAM, Grade.BAD)
    assert (outcome.status, outcome.reason, outcome.fault, outcome.grade) == (status, reason, *blamed)


async def test_a_body_that_breaks_off_never_ends_cleanly(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([UpstreamError("upstream.truncated", "closed", began=True)])
    got = server()
    with pytest.raises(ResponseTruncated):
        await got.run(driver(destination))
    assert all(message.get("more_body", True) for message in got.sent)
    assert destination.responses[0].closed == 1
    outcome = log[-1][2]
    assert (outcome.reason, outcome.fault, outcome.complete) == ("upstream.truncated", Fault.UPSTREAM, False)


async def test_a_destination_that_fails_in_the_middle_is_cut_too(driver: Any, fake: Any, server: Any, log: Any) -> None:
    with pytest.raises(ResponseTruncated):
        await server().run(driver(fake([ValueError("a bug")])))
    assert log[-1][2].reason == "upstream.failed"


async def test_a_filtered_answer_has_no_length_and_its_end(driver: Any, fake: Any, server: Any) -> None:
    destination = fake([b"a", b"b"], headers=[(b"content-length", b"2"), (b"etag", b'"x"')])
    got = await server().run(driver(destination, Upper()))
    assert got.sent[0]["headers"] == [(b"etag", b'W/"x"')]
    assert got.body == b"AB!"


async def test_a_head_answer_keeps_its_head_and_has_no_body(driver: Any, fake: Any, server: Any) -> None:
    got = await server().run(driver(fake([b"abc"]), Upper()), "HEAD")
    assert got.body == b""
    assert got.sent[-1]["more_body"] is False


async def test_a_filter_that_raises_cuts_the_answer(driver: Any, fake: Any, server: Any, log: Any) -> None:
    with pytest.raises(ResponseTruncated):
        await server().run(driver(fake([b"abc"]), Broken(place="filter")))
    assert log[-1][2].reason == "policy.failed"


async def test_a_response_hook_that_raises_replaces_the_answer(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake([b"secret"])
    got = await server().run(driver(destination, Broken(place="response")))
    assert (got.status, b"secret" in got.body) == (500, False)
    assert destination.responses[0].closed == 1
    assert log[0] == ("response", "record", 500)


@pytest.mark.parametrize("te", [b"trailers", None])
async def test_trailers_go_to_a_client_that_takes_them(driver: Any, fake: Any, server: Any, te: bytes | None) -> None:
    destination = fake([b"x"], trailers=[(b"grpc-status", b"0")])
    headers = [(b"te", te)] if te else []
    got = await server().run(
        driver(destination, Broken(place="none")), headers=headers, extensions={"http.response.trailers": {}}
    )
    assert got.sent[0].get("trailers", False) is bool(te)
    last = got.sent[-1]
    if te:
        assert last == {
            "type": "http.response.trailers",
            "headers": [(b"grpc-status", b"0"), (b"x-more", b"1")],
            "more_trailers": False,
        }
    else:
        assert last["type"] == "http.response.body"


async def test_a_client_that_leaves_cancels_the_call(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake(wait=asyncio.get_running_loop().create_future())
    got = server()
    running = asyncio.create_task(got.run(driver(destination)))
    while not got.waiting:
        await asyncio.wait([running], timeout=0.005)
    got.gone.set()
    await running
    assert destination.cancelled
    assert got.sent == []
    outcome = log[-1][2]
    assert (outcome.status, outcome.fault, outcome.grade) == (499, Fault.NOBODY, Grade.IGNORE)


async def test_a_client_that_leaves_in_the_middle_closes_the_response(
    driver: Any, fake: Any, server: Any, log: Any
) -> None:
    destination = fake([asyncio.get_running_loop().create_future()])
    got = server()
    running = asyncio.create_task(got.run(driver(destination)))
    while not got.waiting:
        await asyncio.wait([running], timeout=0.005)
    got.gone.set()
    await running
    assert destination.responses[0].closed == 1
    assert log[-1][2].status == 499


async def test_a_client_that_leaves_while_it_sends_is_nobodys_fault(
    driver: Any, fake: Any, server: Any, log: Any
) -> None:
    parts = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    got = await server(*parts).run(driver(fake()), "POST", [(b"content-length", b"9")])
    assert got.sent == []
    assert log[-1][2].status == 499


async def test_a_quick_answer_is_never_watched(driver: Any, fake: Any, server: Any) -> None:
    got = await server().run(driver(fake()))
    assert got.waiting == 0


async def test_a_body_that_nobody_reads_is_not_taken_by_the_watch(driver: Any, fake: Any, server: Any) -> None:
    """The watch calls `receive` only when the body has been read: else it would eat it."""
    wait = asyncio.get_running_loop().create_future()
    got = server({"type": "http.request", "body": b"abc", "more_body": False})
    running = asyncio.create_task(got.run(driver(fake(wait=wait)), "PUT", [(b"content-length", b"3")]))
    await asyncio.wait([running], timeout=0.03)
    assert got.to_app, "the body was taken"
    wait.set_result(None)
    await running


async def test_a_cancellation_from_outside_stays_one(driver: Any, fake: Any, server: Any, log: Any) -> None:
    destination = fake(wait=asyncio.get_running_loop().create_future())
    running = asyncio.create_task(server().run(driver(destination)))
    await asyncio.wait([running], timeout=0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert destination.cancelled
    assert log[-1][2].status == 499


async def test_a_server_that_says_the_client_is_gone_is_believed(driver: Any, fake: Any, server: Any, log: Any) -> None:
    got = server()

    def gone(message: dict[str, Any]) -> None:
        raise OSError("gone")

    got.on_send = gone
    await got.run(driver(fake()))
    assert log[-1][2].status == 499


@pytest.mark.parametrize(
    ("method", "version", "headers", "body", "length"),
    [
        ("GET", "1.1", [], b"", 0),
        ("GET", "2", [], b"", 0),
        ("GET", "2", [], b"x", None),
        ("POST", "1.1", [], b"", 0),
        ("POST", "1.1", [], b"x", None),
        ("POST", "1.1", [(b"content-length", b"1")], b"x", 1),
        ("POST", "1.1", [(b"transfer-encoding", b"chunked")], b"", None),
    ],
)
async def test_whether_there_is_a_body(
    driver: Any, fake: Any, server: Any, method: str, version: str, headers: Any, body: bytes, length: int | None
) -> None:
    """A body whose length nobody declares (HTTP/2, or a middleware that took the header away) is not lost."""
    seen: list[int | None] = []

    class Length(Spec):
        kind = "length"

        def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
            seen.append(exchange.body.length)

    destination = fake()
    got = server({"type": "http.request", "body": body, "more_body": False})
    await got.run(driver(destination, Length()), method, headers, http_version=version)
    assert seen == [length]
    assert destination.bodies == ([body] if body and method == "POST" else [])


async def test_no_destination_and_no_app_is_said_so(driver: Any, server: Any) -> None:
    got = await server().run(driver(None))
    assert (got.status, b"router.no_destination" in got.body) == (500, True)


async def test_unknown_scopes_pass_to_the_app_or_are_refused(driver: Any, server: Any) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await driver(None, app=app)({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
    with pytest.raises(RuntimeError, match="lifespan"):
        await driver(None)({"type": "lifespan"}, None, None)
