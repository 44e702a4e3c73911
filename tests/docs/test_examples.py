"""Every example runs by itself, with warnings as errors, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gatekit.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", str(example)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_the_configuration_among_them_is_good() -> None:
    assert main(["check", str(EXAMPLES / "gateway.yaml")]) == 0
