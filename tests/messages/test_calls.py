"""Between threads of a process: calls wake the loop that makes them, in order; an order to stop stays."""

import select
from functools import partial
from threading import Thread

import pytest

from testbed.messages.calls import Calls, StopOrder
from testbed.messages.control import Stop
from testbed.messages.descriptors import Descriptors


def readable(descriptor: int, timeout_ms: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_ms))


def test_calls_of_another_thread_are_made_in_order_by_whoever_looks() -> None:
    descriptors, made = Descriptors(), list[int]()
    calls = Calls(descriptors)

    def post_all() -> None:
        for n in range(50):
            calls.post(partial(made.append, n))

    thread = Thread(target=post_all)
    thread.start()
    thread.join()
    assert made == []
    assert readable(descriptors.fileno(), 10_000)
    assert descriptors.serve()
    assert made == list(range(50))
    assert not descriptors.serve()
    calls.close()
    descriptors.close()


def test_calls_that_a_call_asks_for_are_made_too() -> None:
    descriptors, made = Descriptors(), list[str]()
    calls = Calls(descriptors)
    calls.post(lambda: calls.post(lambda: made.append("second")))
    while descriptors.serve():
        pass
    assert made == ["second"]
    calls.close()
    descriptors.close()


def test_calls_that_fail_are_raised_where_they_are_made() -> None:
    descriptors = Descriptors()
    calls = Calls(descriptors)

    def fail() -> None:
        raise LookupError("ours")

    calls.post(fail)
    with pytest.raises(LookupError):
        descriptors.serve()
    calls.close()
    descriptors.close()


def test_stop_order_wakes_and_stays_given() -> None:
    order = StopOrder()
    assert order.receive() is None
    assert not readable(order.socket, 0)
    order.give()
    assert readable(order.socket, 0)
    assert (order.receive(), order.receive()) == (Stop(), Stop())
    order.close()
