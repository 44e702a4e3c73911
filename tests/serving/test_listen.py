"""Sockets to listen on: each kind, what is said when one cannot be had, and what may be replaced."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gatekit.serving.listen import SocketFile, described, inherited, listen_tcp, listen_unix
from gatekit.serving.settings import BadSettings


def hears(listening: socket.socket) -> bool:
    """Whether a client gets through to it."""
    with closing(socket.socket(listening.family, socket.SOCK_STREAM)) as client:
        client.settimeout(5)
        client.connect(listening.getsockname())
        listening.settimeout(5)
        accepted, _ = listening.accept()
        with closing(accepted):
            client.sendall(b"x")
            return accepted.recv(1) == b"x"


# -- TCP


@pytest.mark.parametrize(
    ("host", "family", "shown"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1:"),
        ("localhost", None, ":"),
        ("::1", socket.AF_INET6, "[::1]:"),
        ("0.0.0.0", socket.AF_INET, "0.0.0.0:"),
    ],
)
def test_it_listens_on_an_address_or_a_name(host: str, family: socket.AddressFamily | None, shown: str) -> None:
    with closing(listen_tcp(host, 0, 16)) as sock:
        assert sock.getblocking() is False
        assert family in (None, sock.family)
        port = sock.getsockname()[1]
        assert shown in described(sock)
        assert described(sock).endswith(f":{port}")
        assert port > 0
        if host != "0.0.0.0":
            assert hears(sock)


def test_all_of_ipv6_is_all_of_ipv4_too() -> None:
    with closing(listen_tcp("::", 0, 16)) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        assert described(sock).startswith("[::]:")
        with closing(socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 5)):
            sock.settimeout(5)
            accepted, peer = sock.accept()
            accepted.close()
            assert peer[0] == "::ffff:127.0.0.1"


def test_a_port_that_was_just_left_is_taken_again() -> None:
    """Connections of the last run in TIME_WAIT are no reason not to start."""
    with closing(listen_tcp("127.0.0.1", 0, 16)) as first:
        port = first.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port), 5)) as client:
            first.settimeout(5)
            accepted, _ = first.accept()
            accepted.close()
            assert client.recv(1) == b""
    with closing(listen_tcp("127.0.0.1", port, 16)) as second:
        assert hears(second)


def test_a_port_in_use_is_said() -> None:
    with closing(listen_tcp("127.0.0.1", 0, 16)) as first:
        port = first.getsockname()[1]
        with pytest.raises(BadSettings, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            listen_tcp("127.0.0.1", port, 16)


@pytest.mark.parametrize("host", ["host.invalid", "127.0.0.1.7", "a b"])
def test_what_is_no_address_of_this_machine_is_said(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BadSettings, match=f"{host} is no address of this machine: Name or service not known"):
        listen_tcp(host, 0, 16)


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(BadSettings, match=r"cannot listen on 192.0.2.1 port 0: Cannot assign requested address"):
        listen_tcp("192.0.2.1", 0, 16)


# -- Unix


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    # The kernel takes 107 bytes at most.
    before = os.getcwd()
    os.chdir(tmp_path)
    yield "a.sock"
    os.chdir(before)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_a_unix_socket_has_the_mode_asked_for(path: str, mode: int) -> None:
    before = os.umask(0o027)
    try:
        with closing(listen_unix(path, mode, 16)) as sock:
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
            assert described(sock) == f"unix:{path}"
            assert sock.getblocking() is False
            assert hears(sock)
            assert os.umask(0o027) == 0o027, "the umask is put back"
    finally:
        os.umask(before)


def test_nobody_else_may_connect_before_the_mode_is_set(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def chmod(target: str, mode: int) -> None:
        seen.append(stat.S_IMODE(os.stat(target).st_mode))

    monkeypatch.setattr(os, "chmod", chmod)
    listen_unix(path, 0o666, 16).close()
    assert seen == [0o600]


def test_a_socket_that_nobody_listens_on_any_more_is_replaced(path: str) -> None:
    listen_unix(path, 0o600, 16).close()
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    with closing(listen_unix(path, 0o600, 16)) as sock:
        assert hears(sock)


def test_a_socket_that_somebody_listens_on_is_left_alone(path: str) -> None:
    with closing(listen_unix(path, 0o600, 16)) as first:
        with pytest.raises(BadSettings, match=f"somebody listens on {path} already"):
            listen_unix(path, 0o600, 16)
        # What asked whether somebody listens came first.
        first.accept()[0].close()
        assert hears(first)


def test_one_whose_queue_is_full_is_left_alone(path: str) -> None:
    with closing(listen_unix(path, 0o600, 0)) as first, closing(socket.socket(socket.AF_UNIX)) as waiting:
        waiting.setblocking(False)
        waiting.connect(path)
        with pytest.raises(BadSettings, match=r"whether somebody listens on .* cannot be seen"):
            listen_unix(path, 0o600, 16)
        assert os.path.exists(path)
        first.accept()[0].close()


def test_a_file_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(BadSettings, match=f"{path} is there and is no socket"):
        listen_unix(path, 0o600, 16)
    assert Path(path).read_text() == "precious"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere/a.sock", "cannot listen on nowhere/a.sock: No such file or directory"),
        ("file/a.sock", "cannot listen on file/a.sock: Not a directory"),
        ("x" * 200, "AF_UNIX path too long"),
    ],
    ids=["no folder", "a file on the way", "too long"],
)
def test_a_path_that_cannot_be_is_said(path: str, target: str, said: str) -> None:
    Path("file").touch()
    with pytest.raises(BadSettings) as refused:
        listen_unix(target, 0o600, 16)
    assert said in str(refused.value)


# -- a number


def test_a_socket_that_was_handed_over_is_taken() -> None:
    theirs = socket.create_server(("127.0.0.1", 0))
    with closing(theirs), closing(inherited(theirs.dup().detach(), 16)) as sock:
        assert sock.getblocking() is False
        assert described(sock) == described(theirs)
        assert hears(sock)


def test_a_unix_socket_that_was_handed_over_is_taken(path: str) -> None:
    with closing(listen_unix(path, 0o600, 16)) as theirs, closing(inherited(theirs.dup().detach(), 16)) as sock:
        assert described(sock) == f"unix:{path}"
        assert hears(sock)


def test_a_number_that_is_no_socket_is_said(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        number = file.fileno()
        with pytest.raises(
            BadSettings, match=f"--fd {number} is no socket to listen on: Socket operation on non-socket"
        ):
            inherited(number, 16)


def test_a_number_that_is_nothing_is_said() -> None:
    number = os.dup(0)
    os.close(number)
    with pytest.raises(BadSettings, match=f"--fd {number} is no socket to listen on: Bad file descriptor"):
        inherited(number, 16)


def test_a_socket_file_is_removed_unless_it_is_another_ones(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(listen_unix(path, 0o600, 1)):
        mine = SocketFile(path)
    with closing(listen_unix(path, 0o600, 1)):
        # A successor has begun meanwhile.
        mine.remove()
        assert os.path.exists(path)
        SocketFile(path).remove()
        assert not os.path.exists(path)
    SocketFile(path).remove()


def test_a_handed_socket_without_an_address_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(BadSettings, match="it has no address"):
        inherited(sock.dup().detach(), 16)
