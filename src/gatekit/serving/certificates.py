"""The certificate files of the listener: whether they can be used, and whether they have changed."""

from __future__ import annotations

import hashlib
import ssl
from typing import Literal

from gatekit.serving.settings import TlsFiles


class Certificates:
    """What is in use, known by a digest of the files. Raises OSError and ssl.SSLError when it cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.check()
        self._chain, self._authorities = self._digests()

    def check(self) -> None:
        """Load the files as they are on disk, to see whether a server could."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._files.cert, self._files.key)
        if self._files.client_ca is not None:
            context.load_verify_locations(self._files.client_ca)

    def change(self) -> Literal["certificate", "authorities"] | None:
        """What has changed since the last call; from now on that is in use."""
        before = (self._chain, self._authorities)
        self._chain, self._authorities = self._digests()
        if self._authorities != before[1]:
            return "authorities"
        return "certificate" if self._chain != before[0] else None

    def _digests(self) -> tuple[str, str]:
        authorities = "" if self._files.client_ca is None else _digest(self._files.client_ca)
        return _digest(self._files.cert) + _digest(self._files.key), authorities


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
