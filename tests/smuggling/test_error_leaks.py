"""SE11: what a client is told when an upstream fails says nothing of that upstream, nor of the code in between."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator

import pytest

import gatekit

from .client import PATIENCE, visit
from .faults import ANSWERS, CUT, SECRET, SILENT, Faults
from .sweep import Stage

pytestmark = pytest.mark.servers

CODES = {
    "orders-refused": (502, "upstream.connect_failed"),
    "orders-deaf": (504, "upstream.connect_timeout"),
    "orders-nosocket": (502, "upstream.connect_failed"),
    "orders-untrusted": (502, "upstream.tls_failed"),
    "orders-misnamed": (502, "upstream.tls_failed"),
    "orders-plain": (502, "upstream.tls_failed"),
    "orders-faulty/reset": (502, "upstream.closed"),
    "orders-faulty/closed": (502, "upstream.closed"),
    "orders-hasty/hang": (504, "upstream.timeout"),
    "orders-faulty/garbage": (502, "upstream.bad_response"),
    "orders-faulty/status-999": (502, "upstream.bad_response"),
    "orders-faulty/two-lengths": (502, "upstream.bad_response"),
}
"""The answers that are promised; others need only be errors that tell nothing."""
FAILING = [
    *(f"orders-faulty/{fault}" for fault in (*SILENT, *ANSWERS)),
    "orders-hasty/hang", "orders-refused", "orders-deaf", "orders-unknown", "orders-nosocket", "orders-untrusted", "orders-misnamed",
    "orders-plain",
]  # fmt: skip
WORDS = [
    SECRET, "orders", "backend", "127.0.0.1", "localhost", "::1", "nonexistent", ".sock", "/srv/", "Traceback",
    "Exception", "Errno", "OSError", "UpstreamError", "SSL", "certificate", "refused", "getaddrinfo", "httptools",
    "llhttp", ".py", f"gatekit/{gatekit.__version__}", gatekit.__version__, platform.python_version(),
]  # fmt: skip


def told(stage: Stage, path: str) -> bytes:
    """Everything the client got."""
    request = f"GET /f/{path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n".encode()
    return asyncio.run(visit(stage.server.port, [request], quiet=PATIENCE))


def leaks(data: bytes, faults: Faults) -> Iterator[str]:
    text = data.decode("latin-1").lower()
    for word in [*WORDS, *(str(port) for port in faults.ports.values())]:
        if word.lower() in text:
            yield word


@pytest.mark.parametrize("path", FAILING)
def test_se11_an_upstream_that_fails_is_a_problem_document_that_tells_nothing_of_it(
    stage: Stage, faults: Faults, path: str
) -> None:
    cluster, _, fault = path.partition("/")
    data = told(stage, f"{cluster}/{fault or 'x'}")
    assert list(leaks(data, faults)) == []
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 502", b"HTTP/1.1 504")), data
    assert b"content-type: application/problem+json" in head.lower()
    assert b'"code":"upstream.' in body
    if path in CODES:
        status, code = CODES[path]
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert f'"code":"{code}"'.encode() in body


@pytest.mark.parametrize("fault", CUT)
def test_se11_an_answer_that_breaks_off_tells_nothing_either(stage: Stage, faults: Faults, fault: str) -> None:
    data = told(stage, f"orders-faulty/{fault}")
    assert list(leaks(data, faults)) == []
    assert data.startswith(b"HTTP/1.1 200")
    assert b"begun" in data
    assert not data.endswith(b"0\r\n\r\n"), "it looks like a whole answer"


def test_se11_a_redirect_is_passed_on_and_not_followed(stage: Stage, faults: Faults) -> None:
    data = told(stage, "orders-faulty/redirect")
    assert list(leaks(data, faults)) == []
    assert data.startswith(b"HTTP/1.1 302")
    assert b"location: /elsewhere\r\n" in data.lower()
