"""The queues of a virtio-net device: pairs that carry frames and the queue that carries commands.

Reference: virtio 1.2 §5.1.2 (virtqueues), §5.1.6 (device operation), §5.1.6.5 (control virtqueue). Not
modelled: commands other than the number of queue pairs.
"""

from collections.abc import Callable
from typing import Protocol

from testbed.native import Burst, Drain, PackedDevice, SplitDevice, Watched
from testbed.spec import virtio_net as net

DeviceQueue = SplitDevice | PackedDevice


class Owner(Protocol):
    """The device that queues belong to."""

    link_up: bool

    @property
    def live(self) -> bool:
        """The driver is up and nothing is broken."""
        ...

    def call(self) -> None:
        """Interrupt the driver for used buffers."""
        ...

    def queue_broke(self, queue: DeviceQueue) -> None:
        """A queue breaks the standard: the device needs a reset."""
        ...

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames that were dropped."""
        ...


class QueuePair:
    """One receive and one transmit queue; a `Source` of frames."""

    def __init__(self, owner: Owner, rx: DeviceQueue, tx: DeviceQueue) -> None:
        self._owner, self.rx, self.tx = owner, rx, tx

    @property
    def watched(self) -> Watched | None:
        """The transmit queue, while it is in use."""
        return self.tx if self._owner.live else None

    def fetch(self, burst: Burst, limit: int) -> int:
        """Take frames from the guest; a queue that is broken and empty ends the device."""
        if not self._owner.live:
            return 0
        count = self.tx.fetch(burst, limit)
        if count and not self._owner.link_up:
            self._owner.count_dropped("link_down", count)
            self.complete(burst)
            return 0
        if self.tx.fault and not count:
            self._owner.queue_broke(self.tx)
        return count

    def drain(self, where: Drain, through: Burst, limit: int) -> tuple[int, bool]:
        """Have frames dealt with as long as there are any, as `fetch` and `complete` would."""
        if not self._owner.live:
            return 0, False
        if not self._owner.link_up:
            self.fetch(through, limit)
            return 0, False
        done, call, stays = self.tx.drain(where, through, limit)
        if call:
            self._owner.call()
        if self.tx.fault and not stays:
            self._owner.queue_broke(self.tx)
        return done, stays

    def complete(self, burst: Burst) -> None:
        """Return transmit buffers, call the driver where it asks for it.

        What came before a fault is sent; the device breaks here, for a broken queue is never ready again.
        """
        if self.tx.complete(burst):
            self._owner.call()
        if self.tx.fault:
            self._owner.queue_broke(self.tx)


class ControlQueue:
    """Takes commands; `set_pairs` says whether so many queue pairs can be used."""

    def __init__(self, owner: Owner, queue: DeviceQueue, set_pairs: Callable[[int], bool]) -> None:
        self._owner, self.queue, self._set_pairs = owner, queue, set_pairs

    def serve(self) -> bool:
        """Carry out one command; True: there was one."""
        command = self.queue.take_command()
        if command is not None:
            if self.queue.answer_command(net.CTRL_OK if self._accept(command) else net.CTRL_ERR):
                self._owner.call()
        elif self.queue.fault:
            self._owner.queue_broke(self.queue)
        return command is not None

    def _accept(self, command: bytes) -> bool:
        """Carry a command out; what is not offered or cut short is refused (§5.1.6.5)."""
        if len(command) != net.CTRL.size + net.CTRL_MQ.size:
            return False
        header = net.CTRL.unpack(command)
        if (header["class"], header["command"]) != (net.CTRL_CLASS_MQ, net.CTRL_MQ_VQ_PAIRS_SET):
            return False
        return self._set_pairs(net.CTRL_MQ.unpack(command, net.CTRL.size)["virtqueue_pairs"])
