"""Every example runs by itself, with warnings as errors, ends, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatekit.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def files(place: Path) -> set[Path]:
    return {file for file in place.rglob("*") if "__pycache__" not in file.parts}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    before = files(EXAMPLES)
    # A session of its own: whatever it starts is found by its group. Threads and sockets left open warn (-X dev).
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", str(example)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=50)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, said
    # Not "nothing at all": on a slow machine asyncio's debug mode remarks on slow callbacks there.
    assert "Warning" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert files(tmp_path) == set()
    assert files(EXAMPLES) == before


def test_the_configuration_among_them_is_good() -> None:
    assert main(["check", str(EXAMPLES / "gateway.yaml")]) == 0
