"""How a device reaches its host's memory: one ring of requests for each of its functions.

Reference: PCI Express Base Specification §2.2 (memory requests, requester ID, PASID), §2.4 (ordering);
records in `testbed.spec.dma_request`, native form in testbed/native/dma_ring.h, which queue engines use
directly. The contract:

- A device posts requests (READ: host memory into its own memory, WRITE, MSI) into a function's ring and
  submits them as a batch; several batches may be in flight. The function's requester ID goes with the ring,
  so no request can borrow another's.
- Requests of one ring are dealt with in the order in which they were posted: a write or MSI never overtakes
  an earlier write, and when `completed` has passed a request, what it did is visible. Rings of different
  functions do not wait for each other.
- A request that is refused moves no byte; its `status` says so. Those behind it go on.
- Completion is immediate (on return from `submit`) where memory is in the same process, else it arrives
  later; a device must work with both.

Not modelled: completions out of order, splitting by maximum payload size, message TLPs beyond MSI.
"""

from typing import Protocol

from testbed.native import DmaRequester, Pinned


class Doorbell(Protocol):
    """What wakes the process that serves a ring."""

    def ring(self) -> None:
        """Tell it that there is work."""
        ...


class DmaPiece(Protocol):
    """Memory that both a function's driver and the function can reach."""

    @property
    def iova(self) -> int:
        """Its address as the function uses it."""
        ...

    @property
    def pinned(self) -> Pinned:
        """The same memory as the driver has it."""
        ...


class DmaMemory(Protocol):
    """Where a driver gets memory for rings and buffers."""

    def take(self, size_bytes: int, purpose: str) -> DmaPiece:
        """Return zeroed, page-aligned memory."""
        ...


class DmaPort(Protocol):
    """One function's way into its host's memory."""

    ring: DmaRequester
    """Posts requests and tells what became of them; to be watched for completions."""

    def submit(self) -> None:
        """Publish what was posted; does nothing where there is nothing new."""
        ...


class RingPort:
    """A port whose requests another process serves: submitting rings its bell."""

    def __init__(self, ring: DmaRequester, bell: Doorbell) -> None:
        self.ring, self._bell = ring, bell

    def submit(self) -> None:
        """Publish what was posted."""
        if self.ring.submit():
            self._bell.ring()
