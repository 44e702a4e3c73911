"""The Containerfile without a container engine: its `RUN` line in an empty folder, then its command, then SIGTERM.

It builds the wheel and needs the network, so it is no test. python tests/deploy/install.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.deploy.conftest import Run, ask, is_ready  # noqa: E402
from tests.deploy.test_container import command, instructions  # noqa: E402
from tests.processes import free_ports  # noqa: E402


def install(folder: Path) -> Path:
    """Where it was installed, by the very line of the file."""
    dist, target = folder / "dist", folder / "gatekit"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(dist), str(ROOT)]
    subprocess.run(pip, check=True)
    line = next(rest for name, rest in instructions() if name == "RUN")
    subprocess.run(
        line.replace("/opt/gatekit", str(target)).replace("--find-links /dist", f"--find-links {dist}"),
        shell=True,
        check=True,
    )
    return target


def serve(target: Path, folder: Path) -> int:
    """The command with what was installed, asked once and stopped; its exit code."""
    port, admin = free_ports(2)
    words = {
        "/opt/gatekit/bin/gatekit": str(target / "bin/gatekit"),
        "/etc/gatekit/gateway.yaml": str(ROOT / "deploy/gateway.yaml"),
        "0.0.0.0": "127.0.0.1",
        "8000": str(port),
    }
    options = ["--admin", f"127.0.0.1:{admin}", "--grace", "0"]
    running = Run([*(words.get(word, word) for word in command()), *options], folder)
    try:
        running.wait_for(lambda: is_ready(admin) or None)
        # Nothing listens behind it, and nobody but the gateway can say that so well.
        assert json.loads(ask(port, "/v1/orders/1").body)["status"] in (502, 503)
        running.process.terminate()
        return running.process.wait(20)
    finally:
        running.stop()


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        return serve(install(Path(name)), Path(name))


if __name__ == "__main__":
    sys.exit(main())
