"""Configuration in, printed snapshot out: each file has its input above the line and the output below it.

Run with GATEKIT_REWRITE=1 to write the outputs anew, and read the difference before you keep it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gatekit.config.compile import compile_config
from gatekit.config.documents import config_from
from gatekit.config.schema import json_schema
from gatekit.core.plan import ClusterPlan, SplitPlan
from gatekit.core.ports import Ports
from gatekit.errors import ConfigRefused
from gatekit.providers.file import parse_text
from gatekit.testing.fakes import test_ports

HERE = Path(__file__).parent
LINE = "---8<---\n"
FILES = sorted(HERE.glob("*.yaml"))


class Silent:
    """A destination that is never asked."""

    def __init__(self, plan: ClusterPlan | SplitPlan, ports: Ports) -> None:
        self.name = plan.name

    async def open(self, exchange: Any) -> Any:
        raise NotImplementedError


def printed(text: str, name: str) -> str:
    try:
        config = config_from(parse_text(text, name))
        return compile_config(config, ports=test_ports(), generation=1, destination=Silent).describe()
    except ConfigRefused as refused:
        return f"{refused}\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    text, _, expected = path.read_text(encoding="utf-8").partition(LINE)
    found = printed(text, path.name)
    if os.environ.get("GATEKIT_REWRITE"):
        path.write_text(text + LINE + found, encoding="utf-8")
    else:
        assert found == expected, f"{path.name}: run with GATEKIT_REWRITE=1 if this is meant"


@pytest.mark.parametrize(
    "path", [path for path in FILES if not path.stem.startswith("refused")], ids=lambda path: path.stem
)
def test_golden_inputs_are_valid_by_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8").partition(LINE)[0]
    Draft202012Validator(json.loads(json.dumps(json_schema()))).validate(yaml.safe_load(text))
