"""A gateway behind a real server, one of each kind for the whole session, and upstreams in the hands of the test.

A server that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that
promises servers must not pass without them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.processes import need_module, started
from tests.streaming.process import SERVERS, Server, many_files
from tests.streaming.scene import Scene, Upstreams

SERVING = ["uvicorn", "granian"]

Serve = Callable[[str], Server]


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Upstreams]:
    """The addresses the gateways were told. They stay; connections end with each test."""
    many_files()
    made = Upstreams()
    yield made
    made.close()


@pytest.fixture(scope="session")
def serve(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a server; one whose port was taken in between is started again on another."""
    running: list[Server] = []

    def go(name: str) -> Server:
        need_module(SERVERS[name][0])
        server = started(name, lambda: Server(name, upstreams.urls, tmp_path_factory.mktemp(name)))
        running.append(server)
        return server

    yield go
    for server in running:
        server.stop()


@pytest.fixture(scope="session", params=SERVING)
def server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    return serve(request.param)


@pytest.fixture
def scene(server: Server, upstreams: Upstreams) -> Iterator[Scene]:
    """A client's place, the gateway, and its upstreams, for one test."""
    yield from _set(server, upstreams)


@pytest.fixture(params=SERVING)
def fresh(request: pytest.FixtureRequest, serve: Serve, upstreams: Upstreams) -> Iterator[Scene]:
    """The same with a server that has served nothing yet."""
    server = serve(request.param)
    yield from _set(server, upstreams)
    server.stop()


@pytest.fixture(scope="session")
def hypercorn_server(serve: Serve) -> Server:
    return serve("hypercorn")


@pytest.fixture
def hypercorn(hypercorn_server: Server, upstreams: Upstreams) -> Iterator[Scene]:
    """A scene behind Hypercorn, the one server here that can send trailers."""
    yield from _set(hypercorn_server, upstreams)


def _set(server: Server, upstreams: Upstreams) -> Iterator[Scene]:
    made = Scene(server, upstreams, uuid.uuid4().hex)
    yield made
    made.close()
