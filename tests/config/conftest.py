"""Fixtures of the configuration tests: destinations that only know their plan, and a compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatekit.config.compile import compile_config
from gatekit.config.documents import config_from
from gatekit.config.model import GatewayConfig
from gatekit.config.snapshot import Snapshot
from gatekit.core.plan import ClusterPlan, Document, SplitPlan
from gatekit.core.ports import Ports
from gatekit.errors import ConfigRefused, Problem
from gatekit.providers.file import parse_text
from gatekit.testing.fakes import test_ports


class Recorded:
    """A destination that remembers what it was made from, and by whom."""

    def __init__(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> None:
        self.name = plan.name
        self.plan = plan
        self.owner = ports.owner

    async def open(self, exchange: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def compiled() -> Callable[..., Snapshot]:
    def compiled(config: GatewayConfig | dict[str, Any] | str, **options: Any) -> Snapshot:
        if isinstance(config, str):
            config = config_from(parse_text(config, "gw.yaml"))
        elif isinstance(config, dict):
            config = config_from(config)
        options = {"ports": test_ports(), "generation": 1, "destination": Recorded, **options}
        return compile_config(config, **options)

    return compiled


@pytest.fixture
def refused() -> Callable[..., list[Problem]]:
    """What a text, a mapping, or several of them are refused for."""

    def refused(*sources: str | dict[str, Any] | Document) -> list[Problem]:
        read = [parse_text(source, "gw.yaml") if isinstance(source, str) else source for source in sources]
        with pytest.raises(ConfigRefused) as caught:
            config_from(*read)
        return list(caught.value.problems)

    return refused
