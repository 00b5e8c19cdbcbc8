"""The guest's driver for a virtual function of the 82576: an ordinary igbvf.

Reference: 82576 datasheet (320961, revision 2.63) §4.6 (initialization), §8.26 (registers of a virtual
function), §7.1.5 and §7.2.2 (descriptors). It knows three register spaces, memory for DMA and three interrupt
vectors, and nothing of what is behind them: who assigned the function, and how its bytes move, it cannot see.

Vector 0 is for sent frames, 1 for received ones, 2 for the mailbox. A vector that was sent is cleared and
masked by itself (EIAC, EIAM); the rings are polled until there is nothing left, and `before_sleep` unmasks
and looks once more. The link is up while VTSTATUS says so and the PF's driver lets us send. Not used: the
second pair of queues, offloads, header split, promiscuous modes.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import DeviceError
from testbed.guest.drivers.driver import Arrived
from testbed.guest.drivers.igbvf_mailbox import VfMailbox
from testbed.guest.drivers.tail_queue import TailQueue
from testbed.messages.doorbell import Doorbell
from testbed.native import (
    Burst,
    Filler,
    IgbRxDriver,
    IgbTxDriver,
    Inspector,
    TailDoorbell,
)
from testbed.observe.counters import Counters
from testbed.pci.access import MsiMessage, RegisterBus, SizedBus
from testbed.pci.dma import DmaMemory
from testbed.spec import igb, igb_mailbox, igb_pci, pci
from testbed.spec.igb import RING_DESCRIPTORS_MAX, RING_DESCRIPTORS_MULTIPLE
from testbed.spec.igb_ring import DESC_BYTES, ETHERNET_HEADER_BYTES, FCS_BYTES, VLAN_TAG_BYTES
from testbed.spec.igb_vf import REGISTERS, mask

VECTOR_SEND: Final = 0
VECTOR_RECEIVE: Final = 1
VECTOR_MAILBOX: Final = 2
VECTORS: Final = 3
_ALL: Final = 0xFFFF_FFFF
_ALL_VECTORS: Final = (1 << VECTORS) - 1
_TDT: Final = REGISTERS["TDT"].offset
_RDT: Final = REGISTERS["RDT"].offset
_CRUMBS_PART: Final = 4
"""Frames are sent when this part of the ring is free: many cost little more to pass on than a few."""
_CACHE_LINE_BYTES: Final = 64
_RESET_TRIES: Final = 3
"""How often a reset is asked for again that was answered with NACK; then the driver chooses an address."""
_RETRY_NS: Final = 1_000_000
_LOCALLY_ADMINISTERED: Final = 0x02
_ENABLE: Final = mask("RXDCTL", "ENABLE")
_DEFAULT_FRAME_BYTES: Final = 1518


@dataclass(frozen=True)
class SendTail:
    """The transmit tail register for native code to write, and the doorbell that this rings."""

    register: TailDoorbell
    device: Doorbell


@dataclass(frozen=True)
class VfBus:
    """The function's register spaces, as a driver has them mapped.

    configuration: None where the hypervisor has enabled bus mastering and MSI-X. send_tail: TDT where it is
    mapped, so that native code can write it; None: through `registers` only.
    """

    registers: RegisterBus
    messages: RegisterBus
    configuration: SizedBus | None = None
    send_tail: "SendTail | None" = None


@dataclass(frozen=True)
class IgbVfConfig:
    """What whoever loads the driver may choose.

    vectors: where its `VECTORS` interrupts go; none: it is polled only. ring_size: descriptors of each ring,
    a multiple of 8. throttle_us: least time between two interrupts of a vector. frames_per_kick: frames sent
    before TDT is written. vlans: those that it joins. all_multicast: take every multicast frame.
    """

    vectors: Sequence[MsiMessage] = ()
    ring_size: int = 1024
    mtu: int = 1500
    throttle_us: int = 0
    frames_per_kick: int = 256
    vlans: tuple[int, ...] = ()
    all_multicast: bool = False

    def __post_init__(self) -> None:
        """Refuse a ring that the device cannot have (§8.10 RDLEN)."""
        size, least = self.ring_size, RING_DESCRIPTORS_MULTIPLE
        if not least <= size <= RING_DESCRIPTORS_MAX or size % least:
            raise ValueError(
                f"a ring has a multiple of 8 descriptors up to {RING_DESCRIPTORS_MAX}, not {size}"
            )


class SteeredVector(Protocol):
    """A vector that a workload raises, and steers to any vCPU."""

    @property
    def vcpus(self) -> int:
        """How many vCPUs it can lead to."""
        ...

    def begin(self, handler: Callable[[], bool]) -> None:
        """Have it handled by `handler`, on the thread of the vCPU that takes it."""
        ...

    def end(self) -> None:
        """Give it back to the driver."""
        ...

    def steer(self, vcpu: int) -> None:
        """Have it lead to a vCPU."""
        ...

    def fire(self) -> None:
        """Have the device raise it, once."""
        ...


class IgbVfDriver(TailQueue):
    """One interface; `counter_prefix` is its block of the guest's counters.

    pause(ns): lets that much time pass. DeviceError where the function does not come up.
    """

    def __init__(
        self,
        bus: VfBus,
        memory: DmaMemory,
        counters: Counters,
        counter_prefix: str,
        config: IgbVfConfig,
        pause: Callable[[int], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(
            bus.registers, (_TDT, _RDT), counters, counter_prefix, config.frames_per_kick, config.ring_size
        )
        self._bus, self._config, self.mtu, self._pause = bus, config, config.mtu, pause
        self.mailbox = VfMailbox(bus.registers, pause, clock)
        self._buffer_kib = _buffer_kib(config.mtu)
        self._memory = memory
        self._rx_ring = memory.take(config.ring_size * DESC_BYTES, "igbvf receive ring")
        self._tx_ring = memory.take(config.ring_size * DESC_BYTES, "igbvf transmit ring")
        self._rx, self._tx = self._receive_ring(memory), self._transmit_ring(memory)
        self._masked = 0
        self._crumbs = config.ring_size // _CRUMBS_PART
        self._link_up = False
        self.steering: SteeredVector | None = None
        """A vector for workloads of interrupts."""
        self.failure = ""
        self.mac = bytes(6)
        self._set_up_messages()
        self._bring_up()

    # NetDriver

    @property
    def link_up(self) -> bool:
        """The link as VTSTATUS and the PF's driver last said."""
        return self._link_up

    def tx_send(self, burst: Burst) -> None:
        """See TailQueue; the vector of sent frames is masked until buffers are short."""
        super().tx_send(burst)
        self._masked |= 1 << VECTOR_SEND

    def rx_collect(self, burst: Burst) -> int:
        """See TailQueue; the vector of arrived frames is masked until there are none."""
        count = super().rx_collect(burst)
        if count:
            self._masked |= 1 << VECTOR_RECEIVE  # whoever takes its interrupt may be late
        return count

    def tx_fill(self, filler: Filler, through: Burst, want: int) -> int:
        """Send natively, a piece at a time; crumbs are less than a part of the ring where more is wanted."""
        sent = count = self._transmit(filler, through, want, min(want, self._crumbs))
        while count and sent < want and self._bus.send_tail is None:
            count = self._transmit(filler, through, want - sent, 1)
            sent += count
        if sent:
            self._masked |= 1 << VECTOR_SEND
        return sent

    def _transmit(self, filler: Filler, through: Burst, want: int, least: int) -> int:
        step, native = self._config.frames_per_kick, self._bus.send_tail
        register = None if native is None else native.register
        count, byte_count, kicks, asleep, tail = self._tx.transmit(
            filler, through, want, least, step, register
        )
        if native is not None:
            native.device.count(kicks)
            if asleep:
                native.device.wake()
        if tail is not None:
            self._bus.registers.write32(_TDT, tail)
            kicks += 1
        if count:
            self._counters.add(self._count["tx_kicks"], kicks)
            self._counters.add(self._count["tx_frames"], count)
            self._counters.add(self._count["tx_bytes"], byte_count)
        return count

    def rx_inspect(self, inspector: Inspector, through: Burst, limit: int, now_ns: int) -> Arrived:
        """Take and check frames natively, a piece at a time."""
        got, byte_count, foreign, requests = self._rx.receive(inspector, through, limit, now_ns)
        if not requests:
            self._offer()
        if not got:
            return Arrived(0, 0, 0)
        self._masked |= 1 << VECTOR_RECEIVE  # whoever takes its interrupt may be late
        self._counters.add(self._count["rx_frames"], got)
        self._counters.add(self._count["rx_bytes"], byte_count)
        return Arrived(got, foreign, requests)

    def handle_interrupt(self) -> bool:
        """Do what the mailbox's vector asks for. False: nothing was there.

        A device that does not answer any more has no link; `failure` says why.
        """
        if self.failure:
            return False
        try:
            return self._handle_mailbox()
        except DeviceError as error:
            self._link_up, self.failure = False, str(error)
            return True

    def lose(self, reason: str) -> None:
        """The device was taken out: there is no link, and nothing is asked of it any more."""
        self._link_up, self.failure = False, reason
        self._tx.active = False

    def handle_vector(self, vector: int) -> bool:
        """Do what a vector asks for; it is masked now. The rings are polled, so those of rings ask for
        nothing but to be unmasked by `before_sleep`.
        """
        if vector == VECTOR_MAILBOX:
            return self.handle_interrupt()
        self._masked |= 1 << vector
        return False

    def before_sleep(self) -> bool:
        """Unmask the rings' vectors and look at the rings once more; True: there is work, do not sleep.

        Sent frames are work only where somebody waits for their buffers.
        """
        if self.failure:
            return self._rx.ready
        if self.mailbox.waiting:
            self.handle_interrupt()
        wanted = self._masked if self._tx.active else self._masked & ~(1 << VECTOR_SEND)
        if wanted:
            self._write("VTEIMS", wanted)
            self._masked &= ~wanted
        return self._rx.ready or (self._tx.active and self._tx.ready)

    def set_multicast(self, macs: Sequence[bytes]) -> bool:
        """Ask for multicast frames with these addresses; return whether that was granted."""
        hashes = [igb.address_hash(mac) for mac in macs]
        count = min(len(hashes), igb_mailbox.MULTICAST_EVERYTHING)
        words = [igb_mailbox.SET_MULTICAST | igb_mailbox.INFO.put(count)]
        for n in range(0, min(len(hashes), igb_mailbox.MULTICAST_HASHES_MAX), 2):
            pair = hashes[n : n + 2]
            words.append(pair[0] | (pair[1] << 16 if len(pair) > 1 else 0))
        return self.mailbox.ask(words)[0]

    def set_mac(self, mac: bytes) -> bool:
        """Ask for another address; return whether that was granted."""
        granted = self._ask_for_mac(mac)
        if granted:
            self.mac = mac
        return granted

    def join_vlan(self, vlan: int) -> bool:
        """Ask to be in a VLAN; return whether that was granted."""
        return self.mailbox.ask([igb_mailbox.SET_VLAN | igb_mailbox.INFO.put(igb_mailbox.VLAN_ADD), vlan])[0]

    @property
    def bus(self) -> VfBus:
        """The function's register spaces, for software of the guest that goes round its driver."""
        return self._bus

    @property
    def memory(self) -> DmaMemory:
        """Where the function's driver gets memory."""
        return self._memory

    def restart(self) -> None:
        """Bring the function up again, whatever happened to it; DeviceError where it does not come up."""
        self._restart()

    def stop(self) -> None:
        """Turn the function off, in the order that a removal takes."""
        self._write("VTEIMC", _ALL)
        self._write("RXDCTL", 0)
        self._write("TXDCTL", 0)
        self._write("VTCTRL", mask("VTCTRL", "RST"))

    def _handle_mailbox(self) -> bool:
        self._write("VTEIMS", 1 << VECTOR_MAILBOX)
        if not self.mailbox.poll():
            return False
        if self.mailbox.clear_to_send:
            self._look_at_link()
        else:
            self._restart()
        return True

    # bring-up (§4.6)

    def _bring_up(self) -> None:
        self.mailbox.wait_for_pf()
        self._write("VTEIMC", _ALL)
        self._write("VTCTRL", mask("VTCTRL", "RST"))
        self._read("VTSTATUS")  # flushes the writes before it
        self._set_up_interrupts()
        self._link_up = False
        if self._reset() or self._choose_mac():
            self._ask_for_all()
            self._set_up_queues()
            self._look_at_link()
        # else the operator has turned the link off: the PF's driver will tell when that changes
        self._masked = 0
        self._write("VTEIMS", _ALL_VECTORS)  # last: what came meanwhile interrupts now

    def _restart(self) -> None:
        """The PF's driver wants us to begin anew: what is in the rings is lost."""
        self._rx.clear()
        self._tx.clear()
        self._offered = 0
        self._bring_up()

    def _reset(self) -> bool:
        """Ask for the function, again where that is refused; False: there is no address for it."""
        for _ in range(_RESET_TRIES):
            granted, answer = self.mailbox.ask([igb_mailbox.RESET])
            if granted:
                self.mac = (answer[1] | answer[2] << 32).to_bytes(8, "little")[:6]
                self.mailbox.clear_to_send = True
                return True
            self._pause(_RETRY_NS)
        return False

    def _choose_mac(self) -> bool:
        """Take an address of our own, at random where there is none from before."""
        if not any(self.mac):
            random = os.urandom(6)
            self.mac = bytes([random[0] & 0xFE | _LOCALLY_ADMINISTERED]) + random[1:]
        return self._ask_for_mac(self.mac)

    def _ask_for_mac(self, mac: bytes) -> bool:
        low, high = int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")
        return self.mailbox.ask([igb_mailbox.SET_MAC_ADDR, low, high])[0]

    def _ask_for_all(self) -> None:
        """What a reset has taken away; DeviceError where the frames that we may send would be too long."""
        longest = self.mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + FCS_BYTES
        if longest > _DEFAULT_FRAME_BYTES and not self.mailbox.ask([igb_mailbox.SET_LPE, longest])[0]:
            raise DeviceError(f"82576 VF: frames of {longest} bytes were refused; choose a smaller MTU")
        if self._config.all_multicast:
            everything = igb_mailbox.INFO.put(igb_mailbox.MULTICAST_EVERYTHING)
            self.mailbox.ask([igb_mailbox.SET_MULTICAST | everything])
        for vlan in self._config.vlans:
            if not self.join_vlan(vlan):
                raise DeviceError(f"82576 VF: VLAN {vlan} was refused; the operator decides who is in it")

    def _set_up_queues(self) -> None:
        for name in ("RXDCTL", "TXDCTL"):
            self._write(name, 0)
        self._place("T", self._tx_ring.iova)
        self._place("R", self._rx_ring.iova)
        one_buffer = igb.field("SRRCTL", "DESCTYPE").put(igb.DESCTYPE_ONE_BUFFER)
        self._write("SRRCTL", one_buffer | igb.field("SRRCTL", "BSIZEPACKET").put(self._buffer_kib))
        for name in ("TXDCTL", "RXDCTL"):
            self._write(name, _ENABLE)
            if not self._read(name) & _ENABLE:
                raise DeviceError(f"82576 VF: the device does not enable its queue ({name})")
        self._write("RDT", self._rx.tail)

    def _place(self, ring: str, iova: int) -> None:
        self._write(f"{ring}DBAL", iova & _ALL)
        self._write(f"{ring}DBAH", iova >> 32)
        self._write(f"{ring}DLEN", self._config.ring_size * DESC_BYTES)
        for name in (f"{ring}DH", f"{ring}DT"):
            self._write(name, 0)

    def _set_up_messages(self) -> None:
        """Fill the MSI-X table; enable it and bus mastering where that is ours to do."""
        entry = pci.MSIX_ENTRY
        for number, message in enumerate(self._config.vectors):
            values = {
                "address_low": message.address & _ALL, "address_high": message.address >> 32,
                "data": message.data, "control": 0,
            }  # fmt: skip
            for name, value in values.items():
                self._bus.messages.write32(number * entry.size + entry.offset(name), value)
        if self._bus.configuration is not None:
            control = pci.MSIX["MSIX_CONTROL"]
            enable = pci.MSIX.mask("MSIX_CONTROL", "ENABLE")
            self._bus.configuration.write(igb_pci.MSIX + control.offset, control.size, enable)
            command = pci.HEADER["COMMAND"]
            self._bus.configuration.write(
                command.offset, command.size, pci.HEADER.mask("COMMAND", "BUS_MASTER")
            )

    def _set_up_interrupts(self) -> None:
        rx = mask("VTIVAR", "RX_VALID") | REGISTERS.field("VTIVAR", "RX").put(VECTOR_RECEIVE)
        tx = mask("VTIVAR", "TX_VALID") | REGISTERS.field("VTIVAR", "TX").put(VECTOR_SEND)
        self._write("VTIVAR", rx | tx)
        mailbox = REGISTERS.field("VTIVAR_MISC", "MAILBOX").put(VECTOR_MAILBOX)
        self._write("VTIVAR_MISC", mask("VTIVAR_MISC", "MAILBOX_VALID") | mailbox)
        for vector in (VECTOR_SEND, VECTOR_RECEIVE):
            self._write("VTEITR", igb.field("EITR", "INTERVAL").put(self._config.throttle_us), vector)
        self._read("VTEICR")
        self._write("VTEIAC", _ALL_VECTORS)
        self._write("VTEIAM", _ALL_VECTORS)

    def _look_at_link(self) -> None:
        up = bool(self._read("VTSTATUS") & igb.mask("STATUS", "LU"))
        self._link_up = up and self.mailbox.clear_to_send

    def _receive_ring(self, memory: DmaMemory) -> IgbRxDriver:
        slot = 1024 * self._buffer_kib + _CACHE_LINE_BYTES  # slots that begin in different sets of a cache
        slots = memory.take(self._config.ring_size * slot, "igbvf receive buffers")
        return IgbRxDriver(self._rx_ring.pinned, slots.pinned, slots.iova, self._config.ring_size, slot)

    def _transmit_ring(self, memory: DmaMemory) -> IgbTxDriver:
        slot = 1024 * self._buffer_kib + _CACHE_LINE_BYTES
        slots = memory.take(self._config.ring_size * slot, "igbvf transmit buffers")
        return IgbTxDriver(self._tx_ring.pinned, slots.pinned, slots.iova, self._config.ring_size, slot)

    def _read(self, name: str, index: int = 0) -> int:
        return self._bus.registers.read32(REGISTERS[name].at(index))

    def _write(self, name: str, value: int, index: int = 0) -> None:
        self._bus.registers.write32(REGISTERS[name].at(index), value)


def _buffer_kib(mtu: int) -> int:
    """Return the least size of a buffer, in KiB, that holds a frame; DeviceError beyond the largest."""
    need = mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES
    if need + FCS_BYTES > igb_mailbox.FRAME_MAX_BYTES:
        limit = igb_mailbox.FRAME_MAX_BYTES - FCS_BYTES - VLAN_TAG_BYTES - ETHERNET_HEADER_BYTES
        raise DeviceError(f"82576 VF: an MTU is at most {limit} bytes, not {mtu}")
    return max(2, -(-need // igb.BSIZEPACKET_UNIT_BYTES))
