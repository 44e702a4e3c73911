"""For every test: nothing of gatekit's may outlive it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

APART = ("drills", "deploy", "identity", "serving", "streaming")
"""Folders whose tests of real servers start everything as processes: they say nothing about coverage and mostly wait."""


if "PYTEST_XDIST_WORKER" in os.environ:
    # Coverage is measured in this process. Those that tests start are other programs: measured, they would only be slower.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    os.environ.pop("COVERAGE_PROCESS_START", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in APART and item.get_closest_marker("servers") is not None:
            item.add_marker(pytest.mark.apart)


def pytest_collection_finish() -> None:
    """What was imported lives to the end: neither the collector nor the leak check has to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left(gatekit_leaks: None) -> None:
    """The kit's own leak check, for the whole suite."""
