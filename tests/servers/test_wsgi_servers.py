"""The contract of the hooks over real sockets, behind each WSGI server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.servers


def test_a_request_passes_every_hook_once_and_is_closed(wsgi: Any) -> None:
    response = wsgi.request("GET", "/ok")
    assert (response.status_code, response.text, response.headers["x-gate"]) == (200, "ok", "1")
    assert wsgi.records("close") == [
        ["decide", "/ok"], ["on_response", 200], ["observe", 200, "nobody", True], ["close"],
    ]  # fmt: skip


def test_a_body_reaches_the_app(wsgi: Any) -> None:
    assert wsgi.request("POST", "/echo", content=b"hello" * 10_000).content == b"hello" * 10_000


def test_a_refusal_is_a_whole_response(wsgi: Any) -> None:
    response = wsgi.request("GET", "/ok?refuse")
    assert (response.status_code, response.headers["x-gate"]) == (403, "1")
    assert response.json()["code"] == "probe.refused"
    assert wsgi.observed() == [[403, "client", True]]


def test_a_404_of_the_app_passes_the_hooks(wsgi: Any) -> None:
    assert wsgi.request("GET", "/missing").status_code == 404
    assert wsgi.observed() == [[404, "client", True]]


def test_a_head_has_no_body_and_leaves_the_connection_usable(wsgi: Any) -> None:
    head = wsgi.request("HEAD", "/ok")
    assert (head.status_code, head.content, head.headers["x-gate"]) == (200, b"", "1")
    assert wsgi.request("HEAD", "/ok?refuse").content == b""
    assert wsgi.request("GET", "/ok").text == "ok"


def test_a_path_with_two_readings_is_refused_where_the_server_tells_the_raw_path(wsgi: Any) -> None:
    response = wsgi.request("GET", "/a%2fb")
    if wsgi.server.name == "granian-wsgi":
        # This server tells no raw path, so `%2f` cannot be told from a slash: one of the documented limits of WSGI.
        assert response.status_code == 200
        assert wsgi.records("decide")[0] == ["decide", "/a/b"]
    else:
        assert response.status_code == 400
        assert wsgi.observed() == [[400, "client", True]]


def test_an_exception_is_the_servers_500_and_observed_once(wsgi: Any) -> None:
    assert wsgi.request("GET", "/raise").status_code == 500
    assert wsgi.records("observe") == [["decide", "/raise"], ["observe", None, "app", False]]


def test_an_exception_in_the_middle_never_looks_like_a_whole_response(wsgi: Any) -> None:
    if wsgi.server.name == "granian-wsgi":
        # This server ends the body cleanly when the iterable raises: nothing in front of the app can help that.
        wsgi.request("GET", "/break")
    else:
        with pytest.raises(httpx.TransportError):
            wsgi.request("GET", "/break")
    assert wsgi.observed() == [[200, "app", False]]
    assert ["close"] in wsgi.records("close")


def test_a_stream_passes_part_by_part(wsgi: Any) -> None:
    headers = {"x-key": wsgi.key}
    with (
        httpx.Client(trust_env=False) as other,
        other.stream("GET", wsgi.server.url + "/stream", headers=headers) as response,
    ):
        parts = response.iter_lines()
        for number in range(3):
            assert next(parts) == f"part {number}"
            assert not any(entry[0] == "observe" for entry in wsgi.records())
            wsgi.release()
        assert list(parts) == []
    assert wsgi.observed() == [[200, "nobody", True]]


def test_a_client_that_leaves_is_observed_when_the_server_closes(wsgi: Any) -> None:
    with wsgi.connect("/endless") as connection:
        assert connection.recv(4096)
    observed = wsgi.observed()
    assert observed == [[499, "nobody", False]]
    assert ["close"] in wsgi.records("close")
