"""`gatekit check`: is this configuration good?"""

from __future__ import annotations

from gatekit.cli import say
from gatekit.gateway.gateway import Gateway


def check(path: str) -> int:
    """Compile the file as the gateway would and print its warnings. Raises ConfigRefused."""
    snapshot = Gateway.from_config(path).plan
    for warning in snapshot.warnings:
        say(str(warning))
    say(f"{path}: good, routes: {len(snapshot.routes)}, clusters: {len(snapshot.clusters)}, digest: {snapshot.digest}")
    return 0
