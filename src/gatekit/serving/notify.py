"""Telling the service manager how far we are: `READY=1` once everything serves, `STOPPING=1` when it drains.

The protocol is systemd's (sd_notify): a datagram to the socket that `NOTIFY_SOCKET` names. Without it nobody is told.
"""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger("gatekit.supervisor")


def notify(state: str) -> bool:
    """Tell it. False when nobody wants to know, or when it could not be told: that is no reason not to serve."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        # A name of the abstract namespace (unix(7)).
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager could not be told %s: %s", state, error)
        return False
    return True
