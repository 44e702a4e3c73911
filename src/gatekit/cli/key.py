"""`gatekit key`: a new API key. Its text is printed once and kept nowhere; the record is what the gateway needs."""

from __future__ import annotations

import argparse
import json
import secrets
from typing import Any

from gatekit.cli import say
from gatekit.policies.authn.key_hash import new_api_key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, each with what it means."""
    parser.add_argument("id", help="what the key is called where it may be shown: in logs, metrics and configurations")
    parser.add_argument("--subject", help="who calls with it, where that is not its id")
    parser.add_argument("--tenant", metavar="TENANT")
    parser.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="may be given more than once")
    parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="may be given more than once")
    parser.add_argument("--expires", metavar="TIME", help="when it ends, as in 2030-01-01T00:00:00Z")


def key(options: argparse.Namespace) -> int:
    """Print the key, and its record as an entry of `keys`."""
    made = new_api_key(secrets.token_bytes)
    record: dict[str, Any] = {"hash": made.hash}
    for name in ("subject", "tenant", "expires"):
        value = getattr(options, name)
        if value is not None:
            record[name] = value
    if options.scope:
        record["scopes"] = options.scope
    if options.role:
        record["roles"] = options.role
    say("# for the caller; it is shown this once", error=True)
    say(made.text)
    say("# for the gateway: an entry under keys, or of the file that `source` names", error=True)
    say(json.dumps({options.id: record}))
    return 0
