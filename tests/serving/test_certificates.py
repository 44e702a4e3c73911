"""Certificate files: whether they can be used, and what has changed since they were taken."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from gatekit.serving.certificates import Certificates
from gatekit.serving.settings import TlsFiles

GARBAGE = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"


class Files:
    """A certificate, its key and the authorities of the clients, on disk."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.renew()
        self.authority.cert_pem.write_to_path(self.ca)

    def renew(self) -> None:
        issued = self.authority.issue_cert("localhost")
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)

    def certificates(self, *, clients: bool = True) -> Certificates:
        return Certificates(TlsFiles(str(self.cert), str(self.key), str(self.ca) if clients else None))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("clients", [True, False], ids=["with client certificates", "without"])
def test_what_has_not_changed_is_told_as_such(files: Files, clients: bool) -> None:
    certificates = files.certificates(clients=clients)
    assert certificates.change() is None
    files.cert.touch()
    assert certificates.change() is None, "the content counts, not the time"


def test_a_change_is_told_until_it_is_taken(files: Files) -> None:
    def told() -> list[str | None]:
        before = [certificates.change(), certificates.change()]
        certificates.taken()
        return [*before, certificates.change()]

    certificates = files.certificates()
    files.renew()
    assert told() == ["certificate", "certificate", None]
    trustme.CA().cert_pem.write_to_path(files.ca)
    assert told() == ["authorities", "authorities", None]
    files.renew()
    trustme.CA().cert_pem.write_to_path(files.ca)
    assert told() == ["authorities", "authorities", None]


def test_a_key_that_was_written_anew_is_a_change(files: Files) -> None:
    certificates = files.certificates(clients=False)
    files.key.write_text(files.key.read_text() + "\n")
    assert certificates.change() == "certificate"


@pytest.mark.parametrize("broken", ["cert", "key", "ca"])
@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "a folder"])
def test_files_that_cannot_be_used_are_refused(files: Files, broken: str, how: str) -> None:
    certificates = files.certificates()
    path: Path = getattr(files, broken)
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "missing":
        path.write_text("" if how == "empty" else GARBAGE)
    with pytest.raises((OSError, ssl.SSLError)):
        certificates.check()
    with pytest.raises((OSError, ssl.SSLError)):
        files.certificates()


def test_a_key_of_another_certificate_is_refused(files: Files) -> None:
    certificates = files.certificates()
    files.authority.issue_cert("localhost").private_key_pem.write_to_path(files.key)
    with pytest.raises(ssl.SSLError, match=r"(?i)key.values.mismatch"):
        certificates.check()


def test_a_check_takes_nothing_into_use(files: Files) -> None:
    certificates = files.certificates()
    files.renew()
    certificates.check()
    assert certificates.change() == "certificate"
