"""The whole corpus through one server, and what came of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

from .client import visit_all
from .corpus import corpus
from .judge import Entry, Finding, judge, tags_in
from .payload import Payload
from .servers import Server
from .sink import Sink

CORPUS = corpus()
_NUMBERS = {payload.id: number for number, payload in enumerate(CORPUS)}
DELIVERIES = {"whole": "w", "split": "t", "held": "b"}
"""In one piece; the head, a pause, and the rest; in one piece to a route that wants the whole body first. Each with the
letter that its tags begin with."""
CANARY = b"GET /c/##### HTTP/1.1\r\nhost: a.test\r\nx-canary: 1\r\n\r\n"
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Stage:
    """A server, and the sink that its gateway forwards to."""

    server: Server
    sink: Sink

    def entries(self) -> list[Entry]:
        """What the policies saw, once every exchange has ended."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            found: list[Entry] = httpx.get(f"{self.server.url}/records", timeout=5, trust_env=False).json()
            if all("status" in entry for entry in found) or time.monotonic() > end:
                return found


def tag_of(payload: Payload, delivery: str) -> str:
    return f"{DELIVERIES[delivery]}{_NUMBERS[payload.id]:04}"


def parts_of(payload: Payload, delivery: str) -> list[bytes]:
    """The bytes to write, with their tag in them."""
    parts = list(payload.parts)
    if delivery == "split" and len(parts) == 1:
        head, end, rest = parts[0].partition(b"\r\n\r\n")
        parts = [head + end, *([rest] if rest else [])]
    if delivery == "held":
        parts = [part.replace(b"/p/", b"/s/") for part in parts]
    tag = tag_of(payload, delivery).encode()
    return [part.replace(b"#####", tag) for part in parts]


class Sweep:
    """What came of every payload in every delivery: what the client got, what policies and sink saw, the findings."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.name = stage.server.name
        earlier = frozenset(entry["id"] for entry in stage.entries())
        visits: dict[str, tuple[list[bytes], int]] = {}
        for number, payload in enumerate(CORPUS):
            for delivery in DELIVERIES:
                visits[tag_of(payload, delivery)] = (parts_of(payload, delivery), payload.answers)
            canary = f"c{number:04}"
            visits[canary] = ([CANARY.replace(b"#####", canary.encode())], 1)
        found = asyncio.run(visit_all(stage.server.port, visits.values()))
        self.got = dict(zip(visits, found, strict=True))
        self.entries = stage.entries()
        self.findings = judge(self.entries, stage.sink.connections, f"127.0.0.1:{stage.sink.port}", earlier)
        for tag, data in self.got.items():
            others = tags_in(data) - {tag}
            if others:
                self.findings.append(Finding(frozenset({tag, *others}), f"{tag} got what is for {others}: {data!r}"))
