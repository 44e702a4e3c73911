"""Four ASGI servers and one WSGI server, each with a sink of its own behind it, one of each for the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .faults import Faults
from .servers import ASGI, WSGI, start
from .sink import Loop, Sink
from .sweep import Stage, Sweep


@pytest.fixture(scope="session")
def upstreams() -> Iterator[Loop]:
    """The loop on which everything runs that stands for an upstream."""
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def faults(upstreams: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    made = Faults(tmp_path_factory.mktemp("faults"))
    upstreams.run(made.start())
    yield made
    upstreams.run(made.stop())


@pytest.fixture(scope="session")
def stages(
    upstreams: Loop, faults: Faults, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stage]]:
    """A server of that name with its own sink, started when it is first asked for."""
    made: dict[str, Stage] = {}

    def get(name: str) -> Stage:
        if name not in made:
            sink = Sink()
            upstreams.run(sink.start())
            environment = {"GATEKIT_TEST_SINK": str(sink.port), **faults.environment}
            made[name] = Stage(start(name, environment, tmp_path_factory.mktemp(name)), sink)
        return made[name]

    yield get
    for one in made.values():
        one.server.stop()
        upstreams.run(one.sink.stop())


@pytest.fixture(scope="session", params=[*ASGI, *WSGI])
def stage(request: pytest.FixtureRequest, stages: Callable[[str], Stage]) -> Stage:
    return stages(request.param)


@pytest.fixture(scope="session")
def sweep(stage: Stage) -> Sweep:
    """The whole corpus sent through one server, once, and judged."""
    return Sweep(stage)
