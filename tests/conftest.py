"""For every test: nothing of gatekit's may outlive it."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish() -> None:
    """What was imported lives to the end: neither the collector nor the leak check has to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left(gatekit_leaks: None) -> None:
    """The kit's own leak check, for the whole suite."""
