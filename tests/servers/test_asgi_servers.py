"""The contract of the hooks over real sockets, behind each ASGI server."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.servers

BOUND = 2.0
"""Seconds within which a client that left must have been observed, on a busy machine."""


def test_a_request_passes_every_hook_once(asgi: Any) -> None:
    response = asgi.request("GET", "/ok")
    assert (response.status_code, response.text, response.headers["x-gate"]) == (200, "ok", "1")
    assert asgi.records("background") == [
        ["decide", "/ok"], ["on_response", 200], ["observe", 200, "nobody", True], ["background"],
    ]  # fmt: skip


def test_a_body_reaches_the_app(asgi: Any) -> None:
    assert asgi.request("POST", "/echo", content=b"hello" * 10_000).content == b"hello" * 10_000
    assert asgi.request("POST", "/echo", content=iter([b"one ", b"two"])).content == b"one two"


def test_a_refusal_is_a_whole_response(asgi: Any) -> None:
    response = asgi.request("GET", "/ok?refuse")
    assert (response.status_code, response.headers["x-gate"]) == (403, "1")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "probe.refused"
    assert asgi.observed() == [[403, "client", True]]


def test_a_404_of_the_app_passes_the_hooks(asgi: Any) -> None:
    assert asgi.request("GET", "/missing").status_code == 404
    assert asgi.observed() == [[404, "client", True]]


def test_a_head_has_no_body_and_leaves_the_connection_usable(asgi: Any) -> None:
    head = asgi.request("HEAD", "/ok")
    assert (head.status_code, head.content, head.headers["x-gate"]) == (200, b"", "1")
    assert asgi.request("HEAD", "/ok?refuse").content == b""
    assert asgi.request("GET", "/ok").text == "ok"


def test_a_bad_path_is_refused_and_observed(asgi: Any) -> None:
    response = asgi.request("GET", "/a%2fb")
    assert response.status_code == 400
    assert response.headers["x-gate"] == "1"
    assert asgi.observed() == [[400, "client", True]]


def test_an_exception_is_the_servers_500_and_observed_once(asgi: Any) -> None:
    assert asgi.request("GET", "/raise").status_code == 500
    assert asgi.records("observe") == [["decide", "/raise"], ["observe", None, "app", False]]


def test_an_exception_in_the_middle_never_looks_like_a_whole_response(asgi: Any) -> None:
    with pytest.raises(httpx.TransportError):
        asgi.request("GET", "/break")
    assert asgi.observed() == [[200, "app", False]]


def test_a_stream_passes_part_by_part(asgi: Any) -> None:
    headers = {"x-key": asgi.key}
    with asgi.client.stream("GET", asgi.server.url + "/stream", headers=headers) as response:
        parts = response.iter_lines()
        for number in range(3):
            assert next(parts) == f"part {number}"
            assert not any(entry[0] == "observe" for entry in asgi.records())
            asgi.release()
        assert list(parts) == []
    assert asgi.observed() == [[200, "nobody", True]]


@pytest.mark.parametrize("path", ["/listens", "/deaf"])
def test_a_client_that_leaves_in_the_middle_is_observed_as_499_in_time(asgi: Any, path: str) -> None:
    """Whether or not the app listens for it."""
    with asgi.connect(path) as connection:
        received = b""
        while b"begun" not in received:
            received += connection.recv(4096)
    begun = time.monotonic()
    assert asgi.observed() == [[499, "nobody", False]]
    assert time.monotonic() - begun < BOUND
    if path == "/listens":
        assert ["app heard"] in asgi.records("app heard")


def test_a_websocket_is_accepted_and_observed_at_its_end(asgi: Any) -> None:
    url = asgi.server.url.replace("http", "ws") + "/ws"
    with connect(url, additional_headers={"x-key": asgi.key}, proxy=None) as socket:
        assert socket.response is not None
        if asgi.server.name != "granian":  # which sends no headers of ours with the 101
            assert socket.response.headers["x-gate"] == "1"
        socket.send("hello")
        assert socket.recv(5) == "hello"
        assert not any(entry[0] == "observe" for entry in asgi.records())
    assert [entry[0] for entry in asgi.records("observe")] == ["decide", "on_response", "observe"]


def test_a_websocket_is_denied(asgi: Any) -> None:
    url = asgi.server.url.replace("http", "ws") + "/ws?refuse"
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers={"x-key": asgi.key}, proxy=None):
        pass
    assert refused.value.response.status_code == 403
    assert asgi.observed() == [[403, "client", True]]
