"""For every test: nothing of gatekit's may outlive it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_left(gatekit_leaks: None) -> None:
    """The kit's own leak check, for the whole suite."""
