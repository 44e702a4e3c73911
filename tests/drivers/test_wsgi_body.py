"""The request body under WSGI: how much is read, when, and what is left for the app."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.policy import Spec
from gatekit.drivers.wsgi import WsgiDriver, run_now
from gatekit.drivers.wsgi_body import WsgiBody
from gatekit.errors import ClientDisconnected


class Needs(Spec):
    """Reads the body, up to five bytes."""

    kind = "needs"

    def bind_to(self, ports: Any) -> Any:
        class Bound:
            needs_body = 5

            def decide(self, exchange: Exchange) -> None:
                assert exchange.body.data is not None

        return Bound()


CODED: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def body_of(data: bytes, **environ: Any) -> WsgiBody:
    return WsgiBody({"wsgi.input": io.BytesIO(data), **environ})


@pytest.mark.parametrize(
    ("environ", "length"),
    [
        ({"CONTENT_LENGTH": "3"}, 3),
        ({"CONTENT_LENGTH": ""}, 0),
        ({}, 0),
        ({"CONTENT_LENGTH": "+3"}, None),
        ({"CONTENT_LENGTH": "9" * 19}, None),
        ({"CONTENT_LENGTH": "9" * 18}, int("9" * 18)),
        ({"wsgi.input_terminated": True}, 0),
        ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": "HTTP/2"}, None),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 0),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}, None),
    ],
)
def test_how_long_it_is(environ: dict[str, Any], length: int | None) -> None:
    assert body_of(b"abc", **environ).length == length


def test_it_is_buffered_once_and_never_past_the_cap() -> None:
    body = body_of(b"abcdef", CONTENT_LENGTH="6")
    assert run_now(body.buffer(5)) is None
    assert run_now(body.buffer(6)) == b"abcdef"
    assert run_now(body.buffer(6)) == b"abcdef"
    assert run_now(body.buffer(5)) is None
    assert body.length == 6


def test_a_body_of_unknown_length_is_read_to_its_end_or_to_the_cap() -> None:
    body = body_of(b"abcdef", **CODED)
    assert run_now(body.buffer(3)) is None
    assert body.kept == b"abcd"
    assert body.rest().read() == b"abcdef"
    assert run_now(body_of(b"abc", **CODED).buffer(3)) == b"abc"


def test_a_body_that_breaks_off_is_not_taken_for_whole() -> None:
    with pytest.raises(ClientDisconnected):
        run_now(body_of(b"abc", CONTENT_LENGTH="5").buffer(10))


async def test_it_is_read_part_by_part_on_a_loop() -> None:
    body = body_of(b"abc", CONTENT_LENGTH="3")
    assert [await body.read(), await body.read()] == [b"abc", b""]
    buffered = body_of(b"abc", CONTENT_LENGTH="3")
    await buffered.buffer(10)
    assert [await buffered.read(), await buffered.read()] == [b"abc", b""]
    begun = body_of(b"abcdef", **CODED)
    await begun.buffer(3)
    assert [await begun.read(), await begun.read(), await begun.read()] == [b"abcd", b"ef", b""]
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize(
    ("sent", "declared", "status"),
    [(b"abc", "3", "200 OK"), (b"abcdef", "6", "413 Content Too Large"), (b"ab", "4", "400 Bad Request")],
)
def test_a_policy_that_needs_the_body(
    plan_of: Any, record: Any, log: Any, sent: bytes, declared: str, status: str
) -> None:
    seen: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b"ok"]

    driver = WsgiDriver(plan_of(record(log=log), Needs()), now=lambda: 0.0, app=app)
    environ = {
        "REQUEST_METHOD": "POST", "wsgi.url_scheme": "http", "SERVER_PROTOCOL": "HTTP/1.1", "PATH_INFO": "/",
        "HTTP_HOST": "h", "wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": declared,
    }  # fmt: skip
    said: list[str] = []

    def start_response(given: str, headers: Any, exc_info: Any = None, /) -> Any:
        said.append(given)

    parts = driver(environ, start_response)
    list(parts)
    assert seen == ([sent] if status == "200 OK" else [])
    assert said[0].split()[0] == status.split()[0]
    assert log[-1][2].status == (499 if status.startswith("400") else int(status[:3]))
