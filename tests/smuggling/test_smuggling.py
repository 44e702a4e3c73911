"""SE4: whatever a client sends, the upstream gets exactly the requests that the policies saw, and nothing between them.

Every payload of the corpus goes through four ASGI servers and one WSGI server, in one piece, in two, and to a route
that holds the body back. What the raw sink got is read by the strict reader and held against the policies' record.
"""

from __future__ import annotations

from typing import Final

import pytest

from .judge import tags_in
from .payload import Payload
from .sweep import CORPUS, DELIVERIES, Sweep, tag_of

pytestmark = pytest.mark.servers

EVERY: Final = ("uvicorn-h11", "uvicorn-httptools", "granian", "hypercorn", "gunicorn")


def test_the_corpus_is_large_and_every_id_is_unique() -> None:
    assert len({payload.id for payload in CORPUS}) == len(CORPUS) >= 120


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: payload.id)
def test_se4_the_upstream_gets_only_what_the_policies_saw(sweep: Sweep, payload: Payload) -> None:
    tags = {tag_of(payload, delivery) for delivery in DELIVERIES}
    found = [finding.text for finding in sweep.findings if finding.tags & tags]
    assert not found, f"{payload.about}:\n" + "\n".join(found)


@pytest.mark.parametrize("payload", [one for one in CORPUS if one.answers], ids=lambda payload: payload.id)
def test_a_request_in_order_is_answered_by_the_upstream(sweep: Sweep, payload: Payload) -> None:
    """So the way is open, and what the other payloads do not bring about is not for lack of one."""
    for delivery in DELIVERIES:
        tag = tag_of(payload, delivery)
        got = sweep.got[tag]
        assert got.lower().count(b"\r\nx-saw-target: ") == payload.answers, (delivery, got)
        assert tags_in(got) == {tag}


def test_se4_no_connection_is_out_of_step_afterwards(sweep: Sweep) -> None:
    """After every payload a client of its own asks for something, over the same upstream connections, and gets that."""
    ids = {entry["target"]: entry["id"] for entry in sweep.entries}
    for number, payload in enumerate(CORPUS):
        got = sweep.got[f"c{number:04}"].lower()
        target = f"/c/c{number:04}"
        assert got.startswith(b"http/1.1 200"), (payload.id, got)
        assert f"\r\nx-saw-target: {target}\r\n".encode() in got, (payload.id, got)
        assert f"\r\nx-saw: {ids[target]}\r\n".encode() in got, (payload.id, got)


def test_se4_nothing_is_left_that_belongs_to_no_payload(sweep: Sweep) -> None:
    assert [finding.text for finding in sweep.findings if not finding.tags] == []


def test_connections_to_the_upstream_were_shared(sweep: Sweep) -> None:
    """Were each used once, nothing could be out of step."""
    connections = sweep.stage.sink.connections
    assert len(connections) * 3 < sum(len(connection.requests) for connection in connections)
