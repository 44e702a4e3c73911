"""`gatekit explain`: which route takes this request, and why not the others?"""

from __future__ import annotations

from collections.abc import Sequence

from gatekit.cli import say
from gatekit.gateway.gateway import Gateway


def explain(path: str, method: str, url: str, headers: Sequence[str], client: str | None) -> int:
    """Ask the live matcher. Raises ConfigRefused, ValueError on a header without a colon."""
    pairs: list[tuple[str, str]] = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ValueError(f"a header is given as 'Name: value', not {header!r}")
        pairs.append((name.strip(), value.strip()))
    explanation = Gateway.from_config(path).explain(method, url, headers=pairs, client=client)
    say(str(explanation))
    return 0 if explanation.winner is not None else 1
