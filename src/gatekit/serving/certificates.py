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
        # ssl does not say which file it misses.
        self._digests()
        context_of(self._files)

    def change(self) -> Literal["certificate", "authorities"] | None:
        """What is on disk and not in use."""
        chain, authorities = self._digests()
        if authorities != self._authorities:
            return "authorities"
        return "certificate" if chain != self._chain else None

    def taken(self) -> None:
        """What is on disk is in use now."""
        self._chain, self._authorities = self._digests()

    def _digests(self) -> tuple[str, str]:
        authorities = "" if self._files.client_ca is None else _digest(self._files.client_ca)
        return _digest(self._files.cert) + _digest(self._files.key), authorities


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """What a listener with these files says and asks: TLS 1.2 or later. Raises OSError and ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key, _no_password)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if files.client_cert == "required" else ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    """Nobody is there to be asked at a reload."""
    raise OSError("the private key has a password: give one without")


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
