"""The control channel: typed messages both ways, in order, under the process's name."""

import msgspec
import pytest

from testbed.messages.control import Cancel, Collect, Failed, Ready, Stop, ToProcess
from tests.messages.conftest import NAME, Wire


def test_channel_messages_reach_the_launcher_under_the_process_s_name(wire: Wire) -> None:
    wire.control.send(Ready(at_ns=5))
    wire.control.send(Failed(reason="the device is gone"))
    assert [wire.hear(), wire.hear()] == [
        (NAME, Ready(at_ns=5)),
        (NAME, Failed(reason="the device is gone")),
    ]


def test_channel_messages_of_the_launcher_come_in_order(wire: Wire) -> None:
    wire.control.send(Ready(at_ns=0))
    wire.hear()
    messages: list[ToProcess] = [Collect(flow_id=1, sent=2), Cancel(flow_id=3), Stop()]
    got = []
    for message in messages:
        wire.say(message)
        got.append(wire.control.receive())
    assert got == messages


def test_channel_with_nothing_there_says_none(wire: Wire) -> None:
    assert wire.control.receive() is None


@pytest.mark.parametrize("data", [b"", b"{", b'{"type":"Ready","at_ns":1}', b'{"type":"Collect"}'])
def test_channel_takes_no_other_message(wire: Wire, data: bytes) -> None:
    wire.control.send(Ready(at_ns=0))
    wire.hear()
    wire.say_raw(data)
    with pytest.raises(msgspec.DecodeError):
        wire.control.receive()
