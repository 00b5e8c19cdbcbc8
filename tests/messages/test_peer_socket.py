"""Sockets towards programs that are not ours: nobody there is no error, everything else is said."""

import socket
from pathlib import Path

import pytest

from testbed.errors import MachineError
from testbed.messages.peer_socket import Listener, connect
from tests.support.files import no_descriptor_left


def test_nobody_connects_or_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert connect(str(path)) is None
    listener = Listener(str(path))
    assert listener.accept() is None
    listener._socket.close()
    assert connect(str(path)) is None


def test_what_keeps_us_from_connecting_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="Not a directory"):
        connect(str(tmp_path / "file" / "s"))
    with no_descriptor_left(), pytest.raises(MachineError, match="Too many open files"):
        connect(str(tmp_path / "s"))
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(tmp_path / "d"))
    with datagrams, pytest.raises(MachineError, match="wrong type"):
        connect(str(tmp_path / "d"))


def test_a_connection_that_cannot_be_taken_is_said_and_stays(tmp_path: Path) -> None:
    listener = Listener(str(tmp_path / "s"))
    theirs = connect(listener.path)
    assert theirs is not None
    with no_descriptor_left(), pytest.raises(MachineError, match="Too many open files"):
        listener.accept()
    ours = listener.accept()
    assert ours is not None
    for each in (theirs, ours, listener):
        each.close()
