"""`gatekit schema`: what a configuration file may say, as JSON Schema."""

from __future__ import annotations

import json

from gatekit.cli import say
from gatekit.config.schema import json_schema


def schema() -> int:
    say(json.dumps(json_schema(), indent=2, sort_keys=True))
    return 0
