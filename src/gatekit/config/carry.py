"""What survives a reload. State is kept by identity: whom it belongs to (`gateway`, `route:orders`,
`cluster:orders`) and the settings it was asked for with. What is asked for again is found as it was left; what nobody
asks for any more is forgotten, once the last request of the generations that did has ended.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from gatekit.config.model import GatewayConfig
from gatekit.config.printed import digest
from gatekit.config.snapshot import Snapshot


def still_used(snapshots: Iterable[Snapshot]) -> frozenset[Hashable]:
    """The keys of all state that these generations, the one in force and those with requests under way, asked for:
    what `Cells.retain` is to keep."""
    return frozenset(key for snapshot in snapshots for key in snapshot.used)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two configurations, by name (`route GET /a`, `cluster orders`, `max_headers`), sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        marks = (("+", self.added), ("-", self.removed), ("~", self.changed))
        return "\n".join(f"{mark} {name}" for mark, names in marks for name in names) or "no change"


def changes(before: GatewayConfig, after: GatewayConfig) -> Changes:
    """What a reload from `before` to `after` touches. Everything that is not named keeps its state."""
    old, new = _parts(before), _parts(after)
    both = old.keys() & new.keys()
    return Changes(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(name for name in both if old[name] != new[name])),
    )


def _parts(config: GatewayConfig) -> Mapping[str, str]:
    parts = {f"route {route.id}": digest(route) for route in config.routes}
    parts |= {f"cluster {name}": digest(cluster) for name, cluster in config.clusters.items()}
    entries = ("routes", "clusters")
    return parts | {name: digest(getattr(config, name)) for name in GatewayConfig.model_fields if name not in entries}


__all__ = ["Changes", "changes", "still_used"]
