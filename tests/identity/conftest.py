"""The provider for these tests: one for the session, whose keys and lifetimes a test may change; one of its own for a test
that kills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.processes import started

from .packages import NotInstalled
from .provider import LIFETIMES, Provider

Start = Callable[[Path], Provider]


def start(folder: Path) -> Provider:
    """A provider that answers, in a folder within this one."""

    def go() -> Provider:
        place = folder / f"provider-{sum(1 for _ in folder.iterdir())}"
        place.mkdir()
        return Provider(place).start()

    try:
        return started("the identity provider", go)
    except NotInstalled as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    provider = start(tmp_path_factory.mktemp("identity"))
    yield provider
    provider.stop()


@pytest.fixture
def provider(_shared: Provider) -> Provider:
    """One for all tests, with the lifetimes it began with and nothing counted."""
    _shared.let_live(**LIFETIMES)
    _shared.forget_counts()
    return _shared


@pytest.fixture
def own_provider(tmp_path: Path) -> Iterator[Provider]:
    """One for this test alone, which may kill it."""
    provider = start(tmp_path)
    yield provider
    provider.stop()
