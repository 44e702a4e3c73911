"""`gatekit token`: a token for development, signed with a key of this machine that only development mode believes."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from gatekit.cli import say
from gatekit.policies.authn.development import ALGORITHM, ISSUER, KEY_FILE, KEY_ID


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, each with what it means."""
    parser.add_argument("subject", help="who is calling")
    parser.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="may be given more than once")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="may be given more than once")
    parser.add_argument("--tenant", metavar="TENANT")
    parser.add_argument("--client-id", metavar="ID")
    parser.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other claim; VALUE is JSON, or else text",
    )
    parser.add_argument("--ttl", type=float, default=3600.0, metavar="SECONDS", help="(default: %(default)g)")
    parser.add_argument(
        "--key",
        default=KEY_FILE,
        metavar="FILE",
        help="made if it is not there, for this user alone (default: %(default)s)",
    )


def token(options: argparse.Namespace) -> int:
    """Print the token. Raises ValueError on a claim without a value, OSError."""
    from jwt import encode

    now = int(time.time())
    claims: dict[str, Any] = {"iss": ISSUER, "sub": options.subject, "iat": now, "exp": now + int(options.ttl)}
    claims["jti"] = secrets.token_hex(16)
    if options.scope:
        claims["scope"] = " ".join(options.scope)
    if options.role:
        claims["roles"] = options.role
    if options.tenant is not None:
        claims["tenant_id"] = options.tenant
    if options.client_id is not None:
        claims["client_id"] = options.client_id
    claims |= dict(_claim(text) for text in options.claim)
    say(encode(claims, _key(Path(options.key).expanduser()), ALGORITHM, headers={"kid": KEY_ID, "typ": "at+jwt"}))
    return 0


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"a claim is given as NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _key(path: Path) -> bytes:
    """The key, made anew where there is none: of two that make one at once, both use the first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip().encode("ascii")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        fresh = secrets.token_hex(32)
        file.write(fresh + "\n")
    return fresh.encode("ascii")
