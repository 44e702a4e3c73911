"""What `gatekit run` says once it serves: what, from where, and what each worker has for itself."""

from __future__ import annotations

from collections.abc import Iterator

from gatekit import __version__
from gatekit.serving.process import processors
from gatekit.serving.supervisor import Supervisor


def banner(supervisor: Supervisor, where: str, admin: str | None, files: int) -> Iterator[str]:
    """The lines. `where` and `admin` are the addresses listened on, `files` the limit on open files."""
    settings = supervisor.settings
    first = next(iter(supervisor.workers.values())).ready or {}
    revision = "" if supervisor.source is None else f", revision {supervisor.source.revision}"
    yield f"gatekit {__version__} serves {settings.target}"
    yield (
        f"  config     generation {supervisor.generation}{revision}, routes: {first['routes']}, "
        f"clusters: {first['clusters']}"
    )
    scheme = "http" if settings.tls is None else "https"
    address = where if where.startswith("unix:") else f"{scheme}://{where}"
    yield f"  listening  {address} ({first['server']}: {first['protocols']}){_tls(supervisor)}"
    yield f"  admin      {_admin(admin, settings.admin_token is not None)}"
    yield (
        f"  workers    {settings.workers} on {processors()} processors, each up to {settings.max_connections} "
        f"connections; open files: {files}"
    )
    if first["local"]:
        many = "" if settings.workers == 1 else ", so limits let through up to that many times as much"
        yield f"  of each worker's own ({settings.workers}{many}):"
        for kept in first["local"]:
            yield f"    {kept}"
    for warning in () if supervisor.source is None else supervisor.source.warnings:
        yield f"  {warning}"
    yield (
        f"  SIGHUP reloads{', and so does a change of the file' if settings.dev else ''}; SIGTERM drains: "
        f"{settings.grace:g} s as before, then up to {settings.timeout:g} s"
    )


def _tls(supervisor: Supervisor) -> str:
    tls = supervisor.settings.tls
    if tls is None:
        return ""
    clients = "" if tls.client_ca is None else f", client certificates {tls.client_cert}"
    return f", certificate {tls.cert}{clients}"


def _admin(admin: str | None, token: bool) -> str:
    if admin is None:
        return "off"
    address = admin if admin.startswith("unix:") else f"http://{admin}"
    return f"{address}: /live /ready /status /saturation /drain /reload{' (with the token)' if token else ''}"
