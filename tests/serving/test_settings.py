"""What `gatekit run` may be asked for: every refusal, what is a Gateway in Python, and the way to the workers as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.errors import GatekitError
from gatekit.serving.settings import BadSettings, Settings, TlsFiles, admin_address

OPTIONAL = TlsFiles("cert.pem", "key.pem", "ca.pem", "optional")
TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workers": 0}, "--workers must be 1 or more"),
        ({"workers": -3}, "--workers must be 1 or more"),
        ({"port": -1}, "--port must be from 0"),
        ({"port": 65536}, "to 65535"),
        ({"uds": "/run/a.sock", "fd": 3}, "keep one"),
        ({"grace": -0.1}, "--grace must be from 0 to 86400 seconds"),
        ({"grace": 86400.5}, "--grace must be"),
        ({"grace": math.nan}, "--grace must be"),
        ({"timeout": -1.0}, "--timeout must be"),
        ({"timeout": math.inf}, "--timeout must be"),
        ({"timeout": math.nan}, "--timeout must be"),
        ({"hang": 0.0}, "--hang must be from 0.1 to 86400 seconds"),
        ({"hang": -1.0}, "--hang must be"),
        ({"keepalive": -1.0}, "--keepalive must be from 1 to 86400 seconds"),
        ({"keepalive": float("nan")}, "--keepalive must be"),
        ({"backlog": 0}, "--backlog must be from 1 to 1000000"),
        ({"max_connections": -1}, "--max-connections must be from 1 to 1000000"),
        ({"server": "uvicorn", "http": "2"}, "HTTP/2 is served by granian only"),
        ({"tls": OPTIONAL}, "granian can require client certificates, not ask for them: --server uvicorn does both"),
        ({"admin": "0.0.0.0:9901"}, "can be reached from other machines: give --admin-token-file"),
        ({"admin": "[::]:9901"}, "can be reached from other machines"),
        ({"admin": "192.0.2.7:9901"}, "can be reached from other machines"),
        ({"admin": "gateway.example:9901"}, "can be reached from other machines"),
        ({"admin": "LOCALHOST.example:1"}, "can be reached from other machines"),
        ({"admin": "127.0.0.1:8000"}, "must not be the public one"),
        ({"admin": "0.0.0.0:80", "host": "0.0.0.0", "port": 80, "admin_token": TOKEN}, "must not be the public one"),
        ({"admin": "9901"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": ":9901"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": "127.0.0.1:"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": "127.0.0.1:admin"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": "127.0.0.1:65536"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": "127.0.0.1:-1"}, "HOST:PORT, unix:PATH or off"),
        ({"admin": ""}, "HOST:PORT, unix:PATH or off"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        Settings("gateway.yaml", **fields)
    assert said in str(refused.value)
    assert isinstance(refused.value, GatekitError)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"port": 0},
        {"port": 65535},
        {"grace": 0.0, "timeout": 0.0},
        {"grace": 86400.0, "timeout": 86400.0},
        {"http": "2"},
        {"http": "1", "server": "uvicorn"},
        {"server": "uvicorn", "tls": OPTIONAL},
        {"tls": TlsFiles("cert.pem", "key.pem", "ca.pem")},
        {"admin": None},
        {"admin": "unix:/run/gatekit/admin.sock"},
        {"admin": "localhost:9901"},
        {"admin": "[::1]:9901"},
        {"admin": "127.0.0.1:0", "port": 0},
        {"admin": "0.0.0.0:9901", "admin_token": TOKEN},
        {"admin": "127.0.0.1:8000", "uds": "/run/a.sock"},
        {"admin": "127.0.0.1:8000", "fd": 3},
        {"admin": "127.0.0.1:8000", "host": "192.0.2.7"},
    ],
    ids=str,
)
def test_what_can_be_is_taken(fields: dict[str, Any]) -> None:
    assert Settings("gateway.yaml", **fields).target == "gateway.yaml"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9901", ("127.0.0.1", 9901)),
        ("[::1]:9901", ("::1", 9901)),
        ("localhost:0", ("localhost", 0)),
        ("a.example:65535", ("a.example", 65535)),
    ],
)
def test_an_admin_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert admin_address(text) == address


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("shop:gateway", ("shop", "gateway")),
        ("shop.edge.app:made", ("shop.edge.app", "made")),
        ("shop:apps.edge", ("shop", "apps.edge")),
        ("gateway.yaml", None),
        ("./gateway.yaml", None),
        ("file:///etc/gateway.yaml", None),
        ("https://config.example/gateway", None),
        ("shop:", None),
        (":gateway", None),
        ("shop:gate-way", None),
        ("shop..edge:gateway", None),
        ("shop:gateway:more", None),
        ("", None),
    ],
)
def test_a_module_and_an_attribute_are_a_gateway_in_python(target: str, module: tuple[str, str] | None) -> None:
    assert Settings(target).module == module


def test_a_file_of_that_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings("shop:gateway").module == ("shop", "gateway")
    (tmp_path / "shop:gateway").touch()
    assert Settings("shop:gateway").module is None


texts = st.text(max_size=20)
seconds = st.floats(0.0, 86400.0, allow_nan=False)
tls_files = st.builds(TlsFiles, texts, texts, st.none() | texts, st.sampled_from(["required", "optional"]))


@given(
    st.builds(
        Settings,
        target=texts,
        server=st.just("uvicorn"),
        host=texts.map("h".__add__),
        port=st.integers(0, 65535),
        uds=st.none() | texts,
        uds_mode=st.integers(0, 0o777),
        workers=st.integers(1, 999),
        http=st.sampled_from(["auto", "1"]),
        tls=st.none() | tls_files,
        admin=st.none() | texts.map("unix:".__add__),
        admin_token=st.none() | texts,
        log_format=st.sampled_from(["text", "json"]),
        log_level=st.sampled_from(["debug", "error"]),
        grace=seconds,
        timeout=seconds,
        hang=st.floats(0.1, 86400),
        keepalive=st.floats(1, 86400),
        backlog=st.integers(1, 65535),
        max_connections=st.integers(1, 1_000_000),
        dev=st.booleans(),
    )
)
def test_settings_reach_a_worker_as_they_are(settings: Settings) -> None:
    assert Settings.from_json(settings.to_json()) == settings


def test_what_came_as_json_is_checked_again() -> None:
    with pytest.raises(BadSettings, match="workers"):
        Settings.from_json(Settings("a").to_json().replace('"workers": 1', '"workers": 0'))
