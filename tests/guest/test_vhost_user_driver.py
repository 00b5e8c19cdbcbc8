"""The vhost-user front end against a back end that keeps no rule: told by name, and nothing stays open."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.errors import DeviceError
from testbed.guest.drivers.vhost_user import SharedRam, VhostUserPort
from testbed.messages.peer_socket import PeerSocket
from testbed.spec import vhost_user as spec
from testbed.spec.vhost_user import Request
from testbed.virtio.vhost_user.message import reply

MAC = bytes.fromhex("020000000001")
NUMBER = spec.U64.pack(value=1)


def descriptors_open() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Bench:
    """A port, and the back end's end of its connection."""

    def __init__(self) -> None:
        ours, self.back_end = socket.socketpair()
        self.connection = PeerSocket(ours)
        ram = SharedRam(descriptor=0, size_bytes=4096, gpa=0, hva=0)
        self.port = VhostUserPort(self.connection, ram, MAC, 1, lambda _call: None)

    def close(self) -> None:
        self.connection.close()
        self.back_end.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def negotiate(bench: Bench) -> None:
    bench.port.negotiate(0)


def hear(bench: Bench) -> None:
    bench.port.hear()


@pytest.mark.parametrize("listens", [negotiate, hear])
@pytest.mark.parametrize("sent", [NUMBER[:1], reply(Request.GET_FEATURES, NUMBER)], ids=["part", "whole"])
def test_descriptors_that_nobody_asked_for_are_closed_and_refused(
    bench: Bench, listens: Callable[[Bench], None], sent: bytes
) -> None:
    before = descriptors_open()
    socket.send_fds(bench.back_end, [sent], [0, 1])
    with pytest.raises(DeviceError, match="2 descriptors, unasked"):
        listens(bench)
    assert descriptors_open() == before


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(Request.GET_QUEUE_NUM, NUMBER), "answers GET_FEATURES with"),
        (reply(Request.GET_FEATURES, NUMBER), "without VERSION_1"),
        (b"", "hung up at GET_FEATURES"),
    ],
    ids=["another request's", "too few features", "none"],
)
def test_an_answer_that_no_back_end_gives_is_told(bench: Bench, answer: bytes, said: str) -> None:
    bench.back_end.sendall(answer)
    bench.back_end.shutdown(socket.SHUT_WR)
    with pytest.raises(DeviceError, match=said):
        bench.port.negotiate(0)
