"""`--dev`: a change on disk is in force without a signal, whichever server, and a change that cannot be is said."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.processes import Instance
from tests.serving.conftest import Run

pytestmark = pytest.mark.servers
BOUND = 10.0


def hello(one: Instance) -> str:
    with httpx.Client(trust_env=False, timeout=BOUND) as client:
        return client.get(f"http://127.0.0.1:{one.place.port}/hello").text


def test_a_changed_configuration_is_in_force_and_a_bad_one_is_said(run: Run, config: Path) -> None:
    one = run(config, "--dev")
    assert hello(one) == "hi"
    good = config.read_text()
    config.write_text(good + "surplus: 1\n")
    one.wait_for(lambda: one.asked("GET", "/status")[1]["refused"] or None)
    assert "surplus" in one.log.read_text()
    assert hello(one) == "hi"
    config.write_text(good.replace("body: hi", "body: changed"))
    one.wait_for(lambda: hello(one) == "changed" or None)
    assert one.end(BOUND) == 0


def test_changed_code_is_in_force(run: Run, tmp_path: Path) -> None:
    code = (
        "from gatekit import Gateway, Respond, Route\n"
        "gateway = Gateway(routes=[Route('/hello', policies=[Respond(status=200, body='one')])])\n"
    )
    (tmp_path / "edge.py").write_text(code)
    one = run("edge:gateway", "--dev", server="uvicorn")
    assert hello(one) == "one"
    (tmp_path / "edge.py").write_text(code.replace("one", "three"))
    one.wait_for(lambda: hello(one) == "three" or None)
    (tmp_path / "edge.py").write_text("gateway = nonsense\n")
    one.wait_for(lambda: one.asked("GET", "/status")[1]["refused"] or None)
    assert hello(one) == "three"
