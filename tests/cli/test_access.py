"""`gatekit token`, `gatekit key`, and `gatekit explain --as`: what a developer and an operator type."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from gatekit import ApiKey, Authn, Authz, api_keys, development_tokens, jwt
from gatekit.cli import main
from gatekit.gateway.system import system_ports
from gatekit.testing import decide, request, run

CONFIG = """
policies:
  - authn:
      methods:
        - {method: api_keys, keys: {reports: "sha256:5f8c2a6de1b9f3047c9e8d7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c"}}
routes:
  - match: GET /orders/{tenant}
    to: orders
    policies:
      - authz: {allow: [{id: own, scopes: orders:read, tenants: {param: tenant}}]}
clusters:
  orders: {urls: ["http://127.0.0.1:9001"]}
"""


@pytest.fixture
def developer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GATEKIT_DEVELOPMENT", raising=False)
    return tmp_path


def minted(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["token", *options]) == 0
    return capsys.readouterr().out.strip()


def test_a_token_is_good_in_development_and_nowhere_else(
    developer: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = minted(
        capsys, "ann", "--scope", "orders:read", "--scope", "a", "--role", "admin", "--tenant", "acme", "--client-id", "web",
        "--claim", "level=3", "--claim", "team=blue sky",
    )  # fmt: skip
    key = developer / ".config/gatekit/development.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="gatekit run --dev"):
        Authn(development_tokens()).bind(system_ports())
    monkeypatch.setenv("GATEKIT_DEVELOPMENT", "1")
    exchange = request(headers={"Authorization": f"Bearer {token}"})
    anybody = jwt(unchecked_issuer=True, unchecked_audience=True, secret=key.read_text().strip())
    assert decide(Authn(anybody, development_tokens()).bind(system_ports()), exchange) is None
    who = exchange.identity
    assert who is not None
    assert (who.subject, who.tenant, who.client) == ("ann", "acme", "web")
    assert (sorted(who.scopes), sorted(who.roles)) == (["a", "orders:read"], ["admin"])
    assert (who.claims["level"], who.claims["team"]) == (3, "blue sky")
    refused = decide(Authn(anybody).bind(system_ports()), request(headers={"Authorization": f"Bearer {token}"}))
    assert refused is not None
    assert refused.reason == "authn.development_token"


def test_the_key_is_made_once(developer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    minted(capsys, "ann")
    key = (developer / ".config/gatekit/development.key").read_bytes()
    minted(capsys, "bob", "--ttl", "60")
    assert (developer / ".config/gatekit/development.key").read_bytes() == key


def test_a_claim_has_a_name_and_a_value(developer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for claim in ("level", "=3"):
        assert main(["token", "ann", "--claim", claim]) == 1
        assert "NAME=VALUE" in capsys.readouterr().err


def test_a_key_and_what_is_kept_of_it_fit(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--scope",
        "a",
        "--role",
        "r",
        "--tenant",
        "acme",
        "--subject",
        "svc",
        "--expires",
        "2100-01-01T00:00:00Z",
    ]
    assert main(["key", "reports", *options]) == 0
    said = capsys.readouterr()
    text, line = said.out.splitlines()
    record = json.loads(line)
    assert text not in line
    assert "this once" in said.err
    spec = Authn(api_keys({name: ApiKey.model_validate(one) for name, one in record.items()}))
    found = run([spec, Authz(scopes="a", roles="r", tenants="acme")], request(headers={"X-Api-Key": text}))
    assert found.status == 200


def test_explain_says_what_the_rules_make_of_a_caller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    caller = json.dumps({"subject": "ann", "tenant": "acme", "scopes": ["orders:read"]})
    assert main(["explain", str(path), "GET", "/orders/acme", "--as", caller]) == 0
    passed = capsys.readouterr().out
    assert main(["explain", str(path), "GET", "/orders/other", "--as", caller]) == 0
    refused = capsys.readouterr().out
    assert main(["explain", str(path), "GET", "/orders/acme"]) == 0
    nobody = capsys.readouterr().out
    assert "authz: " in passed
    assert "own" in passed
    assert len({passed.partition("authz")[2], refused.partition("authz")[2], nobody.partition("authz")[2]}) == 3


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        ("ann", "JSON object"),
        ("[]", "with a subject"),
        ("{}", "with a subject"),
        ('{"subject": "ann", "tenants": []}', "has no tenants"),
        ('{"subject": "ann", "scopes": "a"}', "list of texts"),
        ('{"subject": "ann", "roles": [1]}', "list of texts"),
    ],
)
def test_a_caller_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], caller: str, why: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    assert main(["explain", str(path), "GET", "/orders/acme", "--as", caller]) == 1
    assert why in capsys.readouterr().err


def test_development_mode_is_what_dev_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from gatekit.serving import run as serving

    monkeypatch.delenv("GATEKIT_DEVELOPMENT", raising=False)
    seen: list[str | None] = []

    def serve(*_: object) -> int:
        seen.append(os.environ.get("GATEKIT_DEVELOPMENT"))
        return 0

    monkeypatch.setattr(serving, "run", serve)
    assert main(["run", "x.yaml"]) == 0
    monkeypatch.setenv("GATEKIT_DEVELOPMENT", "")
    assert main(["run", "x.yaml", "--dev"]) == 0
    assert seen == [None, "1"]
