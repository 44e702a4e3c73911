"""The listening socket. The supervisor makes it and keeps it, so no connection is refused while workers come and go."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing

from gatekit.serving.settings import BadSettings


def listen_tcp(host: str, port: int, backlog: int) -> socket.socket:
    """Listen on an address or a name of this machine. Raises BadSettings with the reason."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadSettings(f"{host} is no address of this machine: {error.strerror or error}") from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPV6_V6ONLY"):
            # "::" is for IPv4 too, whatever the system's default.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BadSettings(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


def listen_unix(path: str, mode: int, backlog: int) -> socket.socket:
    """Listen on a Unix socket. A socket file that nobody listens on any more is replaced; anything else is left alone.

    Raises BadSettings.
    """
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody may connect before the mode is set.
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BadSettings(f"cannot listen on {path}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


def inherited(fd: int, backlog: int) -> socket.socket:
    """The listening socket that whoever started us holds open under this number (systemd's first is 3)."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise BadSettings(f"--fd {fd} is no socket to listen on: {error.strerror or error}") from None
    try:
        if sock.family != socket.AF_UNIX and not sock.getsockname()[1]:
            raise OSError("it has no address")
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BadSettings(f"--fd {fd} is no socket to listen on: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


class SocketFile:
    """The file of a Unix socket that we listen on, to be removed when we leave: unless another process has put its own
    in its place meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is = _identity(path)

    def remove(self) -> None:
        if self._is is not None and _identity(self._path) == self._is:
            os.unlink(self._path)


def _identity(path: str) -> tuple[int, int, int] | None:
    """The file's number may be given to the next one; when it was made tells them apart."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _clear(path: str) -> None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadSettings(f"cannot listen on {path}: {error.strerror or error}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise BadSettings(f"{path} is there and is no socket")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            # A queue that is full, a socket that we may not use: somebody may well be there.
            raise BadSettings(f"whether somebody listens on {path} cannot be seen: {error.strerror or error}") from None
        else:
            raise BadSettings(f"somebody listens on {path} already")


def described(sock: socket.socket) -> str:
    """Where it listens, as people write it: `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/gatekit.sock`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"
