"""A gateway behind a real server, one of each kind for the whole session, and upstreams in the hands of the test.

A server that is not installed skips its tests, or fails them where CI=true or GATEKIT_REQUIRE_SERVERS=1: a run that
promises servers must not pass without them.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.streaming.process import SERVERS, ExitedEarly, Server, many_files
from tests.streaming.scene import Scene, Upstreams

STRICT = os.environ.get("CI") == "true" or os.environ.get("GATEKIT_REQUIRE_SERVERS") == "1"

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
        module = SERVERS[name][0]
        if importlib.util.find_spec(module) is None:
            message = f"the server {module} is not installed: pip install {module}"
            if STRICT:
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        for attempt in range(3):
            try:
                server = Server(name, upstreams.urls, tmp_path_factory.mktemp(name))
            except ExitedEarly as error:
                if attempt == 2:
                    pytest.fail(f"{name} does not start:\n{error}", pytrace=False)
            else:
                running.append(server)
                return server
        raise AssertionError

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
