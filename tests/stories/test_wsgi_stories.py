"""What only WSGI has: no loop to wait for, `close()`, `write`, `exc_info`, and an environment that merges spellings."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.verdict import Reply
from gatekit.errors import MisplacedPolicy, PolicySuspended
from gatekit.testing import Closes, Log, Probe, ProtocolBroken, Replacing, call_wsgi, environ, test_ports
from gatekit.wsgi import Policies


def around(app: Any, *specs: Any, **options: Any) -> Policies:
    return Policies(app, *specs, ports=test_ports(), **options)


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


class _Forever:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _waits(exchange: Exchange) -> Reply | None:
    await _Forever()
    return None


async def _waits_for_asyncio(exchange: Exchange) -> Reply | None:
    await asyncio.get_running_loop().create_future()
    return None


@pytest.mark.parametrize("waits", [_waits, _waits_for_asyncio])
def test_a_policy_that_waits_is_refused_and_says_so(waits: Any, caplog: pytest.LogCaptureFixture) -> None:
    log: Log = []
    with caplog.at_level(logging.ERROR, "gatekit"):
        response = call_wsgi(around(hello, Probe("a", log), Probe("b", log, decide=waits)))
    assert response.status == 500
    assert response.json()["code"] == "policy.failed"
    assert [entry for entry in log if entry[1] == "observe"] == [
        ("a", "observe", 500, "gateway"), ("b", "observe", 500, "gateway"),
    ]  # fmt: skip
    if waits is _waits:
        errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
        assert [type(error) for error in errors] == [PolicySuspended]


def test_parts_are_passed_on_as_they_are_made_and_closed_once() -> None:
    made: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for part in (b"1", b"2", b"3"):
            made.append(part)
            yield part

    log: Log = []
    behind = Closes(app)
    result = iter(around(behind, Probe("a", log))(environ("GET", "/"), lambda *_: print))
    assert next(result) == b"1"
    assert made == [b"1"]
    assert not any(entry[1] == "observe" for entry in log)
    result.close()  # type: ignore[attr-defined]
    assert behind.closed == 1
    assert log[-1] == ("a", "observe", 499, "nobody")
    result.close()  # type: ignore[attr-defined]
    assert [entry[1] for entry in log].count("observe") == 1


def test_a_response_that_was_read_to_its_end_is_closed_once_and_observed_as_sent() -> None:
    log: Log = []
    behind = Closes(hello)
    assert call_wsgi(around(behind, Probe("a", log))).body == b"ok"
    assert (behind.opened, behind.closed) == (1, 1)
    assert log[-1] == ("a", "observe", 200, "nobody")


def test_a_close_that_raises_is_raised_and_changes_no_observation() -> None:
    class Parts(list[bytes]):
        def close(self) -> None:
            raise LookupError("close")

    def app(environ: Any, start_response: Any) -> Parts:
        start_response("200 OK", [])
        return Parts([b"ok"])

    log: Log = []
    response = call_wsgi(around(app, Probe("a", log)), raise_app_exceptions=False)
    assert isinstance(response.error, LookupError)
    assert [entry for entry in log if entry[1] == "observe"] == [("a", "observe", 200, "nobody")]


def test_an_app_that_begins_again_with_exc_info_sends_its_second_head() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise LookupError
        except LookupError:
            start_response("500 Oops", [("X-Second", "1")], sys.exc_info())
        return [b"sorry"]

    log: Log = []
    response = call_wsgi(around(app, Probe("a", log, on_response=lambda _, head: head.set("x-a", "1"))))
    assert response.status == 500
    assert response.header("x-second") == "1"
    assert response.header("x-first") is None
    assert response.header("x-a") == "1"
    assert log[-1] == ("a", "observe", 500, "app")


def test_what_is_written_by_write_passes_the_filter() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        return [b"two"]

    response = call_wsgi(around(app, Probe("a", [], body_filter=lambda *_: Replacing(tail=b"!"))))
    assert response.body == b"ONE TWO!"


def test_an_app_that_starts_late_passes_the_hooks() -> None:
    """A generator calls start_response when its first part is asked for."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"ok"

    log: Log = []
    response = call_wsgi(around(app, Probe("a", log, on_response=lambda _, head: head.set("x-a", "1"))))
    assert (response.status, response.header("x-a"), response.body) == (200, "1", b"ok")


def test_an_app_that_never_starts_a_response() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    log: Log = []
    with pytest.raises(ProtocolBroken, match="never called"):
        call_wsgi(around(app, Probe("a", log)))
    assert log[-1][:3] == ("a", "observe", None)


def test_a_server_that_does_not_tell_the_raw_path() -> None:
    seen: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    call_wsgi(around(app, Probe("a", [])), target="/a//b/%C3%A9", raw_uri=None)
    assert seen == ["/a/b/\u00c3\u00a9"]


def test_a_mounted_app_keeps_its_script_name() -> None:
    seen: list[tuple[str, str, str]] = []
    paths: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["REQUEST_URI"]))
        return hello(environ, start_response)

    def note(exchange: Exchange) -> None:
        paths.append(exchange.path)

    call_wsgi(around(app, Probe("a", [], decide=note)), target="/x/../y?q", script_name="/mnt")
    assert paths == ["/y"]
    assert seen == [("/mnt", "/y", "/mnt/y?q")]


def test_the_environ_is_copied_and_never_changed() -> None:
    given = environ("GET", "/a//b", headers={"x": "1"})
    before = dict(given)
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    result: Any = around(app, Probe("a", [], decide=lambda one: one.headers.set("x", "2")))(given, lambda *_: print)
    assert b"".join(result) == b"ok"
    result.close()
    assert given == before
    assert seen[0]["HTTP_X"] == "2"


def test_a_changed_content_type_reaches_the_app() -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ.get("CONTENT_TYPE"))
        return hello(environ, start_response)

    policy = Probe("a", [], decide=lambda one: one.headers.set("content-type", "text/x"))
    call_wsgi(around(app, policy), "POST", body=b"x", headers={"content-type": "text/y"})
    assert seen == ["text/x"]


def test_a_spec_where_a_middleware_belongs_names_the_right_import() -> None:
    with pytest.raises(MisplacedPolicy, match=r"gatekit\.wsgi\.Policies takes specs"):
        Policies(hello, hello)  # type: ignore[arg-type]
