"""Reading and compiling pause between routes, and nothing of a configuration is freed in one go."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

from gatekit import Cluster, Route
from gatekit.config.compile import compile_config
from gatekit.config.documents import config_from
from gatekit.config.model import GatewayConfig
from gatekit.config.printed import digest
from gatekit.config.snapshot import Snapshot
from gatekit.core.plan import Document
from gatekit.routing.pause import let_go
from gatekit.testing import test_ports as ports_for_tests

COUNT = 400
AT_ONCE = 1_500
"""The most objects of the 40 or so for each route that may be freed between two pauses."""


def data(count: int = COUNT) -> dict[str, Any]:
    routes = [
        {
            "match": f"GET /r{number}/{{id}}",
            "to": "a",
            "policies": [{"response_headers": {"set": {"x-a": str(number)}}}],
        }
        for number in range(count)
    ]
    return {"routes": routes, "clusters": {"a": {"urls": ["http://a"]}}}


class Pauses:
    """How often there was a pause."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def compiled(config: GatewayConfig, pause: Pauses) -> Snapshot:
    def nowhere(plan: object, ports: object) -> Any:
        return object()

    return compile_config(config, ports=ports_for_tests(), generation=1, destination=nowhere, pause=pause)


def test_reading_and_compiling_pause_for_every_route() -> None:
    few, many = Pauses(), Pauses()
    compiled(config_from(data(10), pause=few), few)
    compiled(config_from(data(110), pause=many), many)
    assert many.count - few.count >= 100 * 10


def test_a_model_made_by_hand_is_examined_with_pauses() -> None:
    pause = Pauses()
    routes = [Route(f"/r{number}", to="a") for number in range(100)]
    compiled(GatewayConfig(routes=routes, clusters={"a": Cluster("http://a")}), pause)
    assert pause.count >= 100 * 10


def test_a_digest_is_the_same_with_and_without_pauses() -> None:
    config = config_from(data(20))
    pause = Pauses()
    assert digest(config) == digest(config, pause) == compiled(config, Pauses()).digest
    assert pause.count > 20


def test_a_snapshot_and_its_configuration_are_freed_piece_by_piece() -> None:
    document = Document("gw.yaml", data(), lines={f"routes[{number}]": number for number in range(COUNT)})
    snapshot = compiled(config_from(document), Pauses())
    del document
    gc.collect()
    parts = snapshot.parts
    known = [len(gc.get_objects())]
    del snapshot
    known.append(len(gc.get_objects()))
    let_go(parts, lambda: known.append(len(gc.get_objects())) if len(parts) % 20 == 0 else None)
    freed = [before - after for before, after in pairwise(known)]
    assert sum(freed) > COUNT * 25
    assert max(freed) <= AT_ONCE


def test_what_a_document_said_is_not_kept() -> None:
    document = Document("gw.yaml", data(3), lines={"routes[0]": 2})
    config = config_from(document)
    assert config.places.where("routes[0]") == "routes[0] in gw.yaml:2"
    held = [one for one, _ in config.places._entries.values()]
    assert {dict(one.data) == {} for one in held} == {True}
