"""A gateway from a file, and a change to it while it runs: `uvicorn serve:gateway`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gatekit import ConfigRefused, Gateway

FILE = Path(__file__).with_name("gateway.yaml")

gateway = Gateway.from_config(FILE)


def main() -> None:
    assert gateway.explain("GET", "/v1/orders/42").winner is not None
    with suppress(ConfigRefused):
        gateway.apply({"routes": [{"match": "/x", "to": "a cluster that is not there"}]})
    assert gateway.generation == 1
    gateway.apply(FILE)
    assert gateway.generation == 2


if __name__ == "__main__":
    main()
