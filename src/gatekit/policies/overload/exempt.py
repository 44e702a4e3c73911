"""What is never turned away: health checks, above all, whose failure would take the whole instance out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatekit.core.exchange import Exchange


def check(entry: str) -> None:
    """Raises ValueError unless it is a path, with `/*` behind it a path and all below it, or the name of a route."""
    if not entry:
        raise ValueError("an exemption is a path such as /healthz or /internal/*, or the name of a route")
    if entry.startswith("/") and "*" in entry.removesuffix("/*"):
        raise ValueError(f"{entry!r}: a star stands only at the end, as in /internal/*")


def exemption(entries: Sequence[str]) -> Callable[[Exchange], bool] | None:
    """Tells whether an exchange is exempt; None where nothing is."""
    if not entries:
        return None
    names = frozenset(entry for entry in entries if not entry.startswith("/"))
    paths = frozenset(entry for entry in entries if entry.startswith("/") and not entry.endswith("/*"))
    below = tuple(entry[:-1] for entry in entries if entry.startswith("/") and entry.endswith("/*"))
    itself = paths | {entry[:-1] for entry in below}

    def exempt(exchange: Exchange) -> bool:
        path = exchange.path
        if path in itself or (below and path.startswith(below)):
            return True
        return bool(names) and exchange.route is not None and exchange.route.id in names

    return exempt
