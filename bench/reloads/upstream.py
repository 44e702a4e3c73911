"""An upstream as small as one can be: it answers whatever comes over a connection. Run with the port."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

BODY = b'{"id": 1, "name": "' + b"a" * 70 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Answering(asyncio.Protocol):
    """One connection. Requests have no body, so each ends with its head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._tail = (self._tail + data).split(b"\r\n\r\n")
        self._transport.write(ANSWER * len(heads))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
