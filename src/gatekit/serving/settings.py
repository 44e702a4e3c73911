"""What `gatekit run` was asked for, checked and in one place. It crosses to the workers as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self

from gatekit.errors import GatekitError
from gatekit.gateway.admin import is_loopback

TOKEN = "GATEKIT_ADMIN_TOKEN"  # noqa: S105 - the name of the variable, not a token
"""The environment variable with the admin token."""


class BadSettings(GatekitError):
    """Settings of `gatekit run` that do not go together, or that cannot be. The message says what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The listener's certificate, as PEM files. `client_ca` signs the certificates that clients may show; with
    `client_cert="required"` they must."""

    cert: str
    key: str
    client_ca: str | None = None
    client_cert: Literal["required", "optional"] = "required"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about the processes; nothing about routes. Durations are seconds.

    `http` "auto" is HTTP/1.1, and over TLS HTTP/2 where the server has it; "both" is both without TLS too.

    `target` is a configuration (a file or a provider's URL) or `module:attribute`, a Gateway in Python. `grace` is how
    long a draining instance goes on as if nothing were, so that balancers notice; `timeout` is what requests and streams
    have after that. `max_connections` is for each worker.
    """

    target: str
    server: str = "granian"
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_mode: int = 0o660
    fd: int | None = None
    workers: int = 1
    http: Literal["auto", "1", "2", "both"] = "auto"
    tls: TlsFiles | None = None
    admin: str | None = "127.0.0.1:9901"
    admin_token: str | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: str = "info"
    grace: float = 5.0
    timeout: float = 30.0
    hang: float = 30.0
    keepalive: float = 75.0
    backlog: int = 2048
    max_connections: int = 16384
    dev: bool = False

    def __post_init__(self) -> None:
        """Raises BadSettings."""
        if self.workers < 1:
            raise BadSettings("--workers must be 1 or more")
        if not 0 <= self.port <= 65535:
            raise BadSettings("--port must be from 0 (any that is free) to 65535")
        if self.uds is not None and self.fd is not None:
            raise BadSettings("--uds and --fd both say where to listen: keep one")
        for name, least in (("grace", 0), ("timeout", 0), ("hang", 0.1), ("keepalive", 1)):
            if not least <= getattr(self, name) <= 86400:
                raise BadSettings(f"--{name} must be from {least:g} to 86400 seconds")
        for option, value in (("backlog", self.backlog), ("max-connections", self.max_connections)):
            if not 1 <= value <= 1_000_000:
                raise BadSettings(f"--{option} must be from 1 to 1000000")
        if self.server != "granian" and self.http in ("2", "both"):
            raise BadSettings("HTTP/2 is served by granian only: --server granian, or leave --http out")
        if self.server == "granian" and self.tls is not None and self.tls.client_cert == "optional":
            raise BadSettings("granian can require client certificates, not ask for them: --server uvicorn does both")
        self._check_admin()

    def _check_admin(self) -> None:
        """The admin address must be for this machine alone, unless a token keeps others out."""
        if self.admin is None or self.admin.startswith("unix:"):
            return
        host, port = admin_address(self.admin)
        if host != "localhost" and not is_loopback(host) and self.admin_token is None:
            raise BadSettings(
                f"--admin {self.admin} can be reached from other machines: give --admin-token-file (or "
                "GATEKIT_ADMIN_TOKEN), or listen on 127.0.0.1"
            )
        if port and port == self.port and host == self.host and self.uds is None and self.fd is None:
            raise BadSettings("the admin address must not be the public one: give --admin another port")

    @property
    def module(self) -> tuple[str, str] | None:
        """Module and attribute, where the target is a Gateway in Python."""
        module, colon, attribute = self.target.partition(":")
        if not colon or os.path.exists(self.target):
            return None
        if all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
            return module, attribute
        return None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        tls = fields.pop("tls")
        return replace(cls(target=fields["target"], admin=None), **fields, tls=None if tls is None else TlsFiles(**tls))


def admin_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises BadSettings."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise BadSettings(f"--admin takes HOST:PORT, unix:PATH or off, not {text!r}")
    return host.strip("[]"), int(port)
