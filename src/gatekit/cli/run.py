"""`gatekit run`: the arguments of the command, as settings."""

from __future__ import annotations

import argparse
import os
from typing import Any

from gatekit.cli import say
from gatekit.serving.settings import TOKEN, BadSettings, Settings, TlsFiles


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The options, each with what it means and its default."""
    default = Settings(target="")
    run.add_argument("config", metavar="CONFIG", help="a YAML or JSON file, or module:attribute, a Gateway in Python")
    where = run.add_argument_group("where it listens")
    where.add_argument("--host", default=default.host, help="an address or name of this machine (default: %(default)s)")
    where.add_argument("--port", type=int, default=default.port, help="0 takes any that is free (default: %(default)s)")
    where.add_argument("--uds", metavar="PATH", help="a Unix socket instead")
    where.add_argument(
        "--uds-mode", type=_octal, default=default.uds_mode, metavar="MODE", help="who may connect to it (default: 660)"
    )
    where.add_argument("--fd", type=int, metavar="N", help="a socket that systemd opened: its number, from 3")
    where.add_argument(
        "--backlog", type=int, default=default.backlog, help="connections that wait (default: %(default)s)"
    )
    served = run.add_argument_group("how it serves")
    served.add_argument("--server", default=default.server, help="granian or uvicorn (default: %(default)s)")
    served.add_argument("--workers", type=int, default=default.workers, help="processes (default: %(default)s)")
    served.add_argument(
        "--http", choices=("auto", "1", "2", "both"), default=default.http,
        help="auto: HTTP/1.1, and HTTP/2 over TLS; both: HTTP/2 without TLS too (granian only; default: auto)",
    )  # fmt: skip
    served.add_argument(
        "--keepalive", type=float, default=default.keepalive, metavar="SECONDS",
        help="how long a connection may be idle or send the head of a request, more than the balancer keeps one "
        "(default: %(default)g)",
    )  # fmt: skip
    served.add_argument(
        "--max-connections", type=int, default=default.max_connections, metavar="N",
        help="connections for each worker; more wait (granian only; default: %(default)s)",
    )  # fmt: skip
    tls = run.add_argument_group("TLS (PEM files, read again at SIGHUP)")
    tls.add_argument("--tls-cert", metavar="FILE", help="the certificate and its chain")
    tls.add_argument("--tls-key", metavar="FILE", help="its private key, without a password")
    tls.add_argument("--client-ca", metavar="FILE", help="ask clients for certificates that these authorities signed")
    tls.add_argument("--client-cert", choices=("required", "optional"), default="required", help="(default: required)")
    admin = run.add_argument_group("administration")
    admin.add_argument(
        "--admin", default=default.admin, metavar="ADDRESS", help="HOST:PORT, unix:PATH or off (default: %(default)s)"
    )
    admin.add_argument(
        "--admin-token-file", metavar="FILE",
        help="a file with the token to ask for; else that in GATEKIT_ADMIN_TOKEN, else none",
    )  # fmt: skip
    admin.add_argument("--log-format", choices=("text", "json"), default=default.log_format, help="(default: text)")
    admin.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default=default.log_level, help="(default: info)"
    )
    admin.add_argument(
        "--grace", type=float, default=default.grace, metavar="SECONDS",
        help="how long a draining instance goes on as before, so that balancers notice (default: %(default)g)",
    )  # fmt: skip
    admin.add_argument(
        "--timeout", type=float, default=default.timeout, metavar="SECONDS",
        help="how long requests and streams may then go on (default: %(default)g)",
    )  # fmt: skip
    admin.add_argument(
        "--hang", type=float, default=default.hang, metavar="SECONDS",
        help="a worker that does not answer the supervisor for so long is replaced (default: %(default)g)",
    )  # fmt: skip
    admin.add_argument(
        "--dev",
        action="store_true",
        help="reload when the file changes, stop without waiting, take development tokens",
    )


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings. Raises BadSettings."""
    fields: dict[str, Any] = vars(options).copy()
    for name in ("command", "tls_cert", "tls_key", "client_ca", "client_cert", "admin_token_file", "config"):
        fields.pop(name, None)
    if fields["admin"] == "off":
        fields["admin"] = None
    if options.dev:
        fields |= {"grace": 0.0, "timeout": min(options.timeout, 1.0)}
    return Settings(target=options.config, tls=_tls(options), admin_token=_token(options.admin_token_file), **fields)


def run(options: argparse.Namespace) -> int:
    """Run until told to stop."""
    from gatekit.serving.run import run as serve

    if options.dev:
        # Its workers are processes of their own.
        os.environ["GATEKIT_DEVELOPMENT"] = "1"
    return serve(settings_from(options), say)


def _tls(options: argparse.Namespace) -> TlsFiles | None:
    if options.tls_cert is None and options.tls_key is None:
        if options.client_ca is not None:
            raise BadSettings("--client-ca asks for client certificates, which needs --tls-cert and --tls-key")
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise BadSettings("--tls-cert and --tls-key go together")
    return TlsFiles(options.tls_cert, options.tls_key, options.client_ca, options.client_cert)


def _token(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN) or None
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"the admin token cannot be read from {path}: {error}") from None
    if not token:
        raise BadSettings(f"{path} is empty: it should hold the admin token")
    return token


def _octal(text: str) -> int:
    return int(text, 8)
