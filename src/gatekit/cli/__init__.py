"""The `gatekit` command: run, check, explain, token, key, revoke, schema, demo. It parses arguments and prints; the work is done elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gatekit import __version__
from gatekit.errors import ConfigRefused, GatekitError


def parser() -> argparse.ArgumentParser:
    """The command line. Each subcommand says what it does and what its exit codes mean."""
    top = argparse.ArgumentParser(prog="gatekit", description="The API gateway as a Python library.")
    top.add_argument("--version", action="version", version=f"gatekit {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    from gatekit.cli import key, revoke, run, token

    check = commands.add_parser(
        "check", help="validate a configuration file; exit 1 with every finding if it is refused"
    )
    check.add_argument("config", help="a YAML or JSON file")

    explain = commands.add_parser(
        "explain", help="ask the live matcher about one request; exit 1 if no route would take it"
    )
    explain.add_argument("config", help="a YAML or JSON file")
    explain.add_argument("method")
    explain.add_argument("url", help="/path?query, or a whole URL with its host")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    explain.add_argument("--client", metavar="ADDRESS", help="the client's address")
    explain.add_argument(
        "--as",
        dest="caller",
        metavar="JSON",
        help='who is calling, as in \'{"subject": "ann", "scopes": ["orders:read"]}\'',
    )

    run.add_arguments(
        commands.add_parser(
            "run",
            help="serve a configuration: workers, reload, drain; exit 1 with every finding if it is refused",
        )
    )

    token.add_arguments(
        commands.add_parser(
            "token", help="mint a token for development, which only a gateway in development mode takes"
        )
    )
    key.add_arguments(
        commands.add_parser("key", help="make an API key: what the caller gets, and what the gateway keeps")
    )
    revoke.add_arguments(
        commands.add_parser("revoke", help="revoke tokens, sessions, clients or tenants on every instance at once")
    )

    commands.add_parser("schema", help="print the JSON Schema of configuration files")

    demo = commands.add_parser(
        "demo", help="run a gateway before a few backends on loopback, with a page of what to try"
    )
    demo.add_argument(
        "--port", type=int, default=8000, help="where to listen on 127.0.0.1 (default: %(default)s, else any)"
    )
    demo.add_argument(
        "--once",
        action="store_true",
        help="send a tour of requests, print what became of each; exit 1 if one surprised",
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. The result is the exit code; 2 is a command line that could not be understood."""
    top = parser()
    options = top.parse_args(arguments)
    if options.command is None:
        top.print_help()
        return 2
    try:
        if options.command == "check":
            from gatekit.cli.check import check

            return check(options.config)
        if options.command == "explain":
            from gatekit.cli.explain import explain

            return explain(options.config, options.method, options.url, options.header, options.client, options.caller)
        if options.command == "schema":
            from gatekit.cli.schema import schema

            return schema()
        if options.command == "run":
            from gatekit.cli.run import run

            return run(options)
        if options.command == "token":
            from gatekit.cli.token import token

            return token(options)
        if options.command == "key":
            from gatekit.cli.key import key

            return key(options)
        if options.command == "revoke":
            from gatekit.cli.revoke import revoke

            return revoke(options)
        from gatekit.cli.demo import demo

        return demo(options.port, once=options.once)
    except ConfigRefused as refused:
        for problem in refused.problems:
            say(str(problem), error=True)
        return 1
    except (GatekitError, OSError, ValueError) as error:
        say(f"gatekit {options.command}: {error}", error=True)
        return 1


def say(line: str, *, error: bool = False) -> None:
    """One line to the terminal, or to whoever reads it there: at once, not when a buffer is full."""
    stream = sys.stderr if error else sys.stdout
    stream.write(line + "\n")
    stream.flush()
