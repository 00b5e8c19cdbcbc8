"""The 82540EM: one register block, and the units behind it tied together.

Reference: Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453-006,
revision 4.0), cited as 8254x SDM. A transport calls `read` and `write` (offsets in the memory BAR) and `io`
(the I/O BAR); a bridge uses the device as a `Port` with one `Source`; whoever has a clock calls `on_timer`
when `deadline_ns` is over. There is no socket, loop or thread here, and nothing that a driver does raises.

Modelled: EEPROM by EERD and EECD, PHY by MDIC, auto-negotiation and link, legacy, context and data
descriptors, checksum insertion, TCP segmentation, VLAN tag insertion and stripping, all receive filters,
receive checksums, interrupt causes with ITR and the delay timers, statistics, PHY loopback, device and PHY
reset. Stored without effect (and counted): see `UNIMPLEMENTED`. Not modelled: PCI configuration space (the
transport's), wake-up, management, flow control, half duplex, Flash, diagnostics of the packet buffer,
configuration by EEPROM words other than the Ethernet address.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.e1000.eeprom import Eeprom, image_for
from testbed.e1000.interrupt import LSC, MDAC, RXO, Interrupts
from testbed.e1000.io_window import IoWindow
from testbed.e1000.phy import Phy
from testbed.e1000.receive import ReceiveUnit
from testbed.e1000.statistics import Statistics
from testbed.e1000.transmit import TransmitUnit
from testbed.interrupts.signal import Line
from testbed.memory.register_file import RegisterFile
from testbed.native import Burst, E1000Receive, E1000Transmit, Pinned, Regions, Watched
from testbed.net.port import SteppedPort
from testbed.spec import e1000
from testbed.spec.e1000 import field, mask
from testbed.spec.port_counters import PORT_COUNTERS, fault_name

UNIMPLEMENTED: Final = (
    "FCTTV", "FCRTL", "FCRTH", "TIPG", "AIFS", "TSPMT", "RXDCTL", "LEDCTL", "MANC", "WUC", "WUFC", "IPAV",
    "IP4AT", "IP6AT", "WUPL", "WUPM", "FFLT", "FFMT", "FFVT", "RDFH", "RDFT", "RDFHS", "RDFTS", "RDFPC",
    "TDFH", "TDFT", "TDFHS", "TDFTS", "TDFPC", "PBM",
)  # fmt: skip
_RST: Final = mask("CTRL", "RST")
_PHY_RST: Final = mask("CTRL", "PHY_RST")
_SLU: Final = mask("CTRL", "SLU")
_EE_RST: Final = mask("CTRL_EXT", "EE_RST")
_LBM: Final = field("RCTL", "LBM")
_RXA: Final = field("PBA", "RXA")
_TXA: Final = field("PBA", "TXA")
_PACKET_BUFFER_KIB: Final = 64
_LU: Final = mask("STATUS", "LU")
_SPEED: Final = field("STATUS", "SPEED")
_ASDV: Final = field("STATUS", "ASDV")
_STATUS_DOWN: Final = mask("STATUS", "FD") | _SPEED.put(e1000.SPEED_1000) | _ASDV.put(3)
_LOOPBACK_PORT: Final = 0

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class E1000Config:
    """What the topology says about one device.

    autoneg_ns: how long auto-negotiation takes; 0: the link is up at once.
    """

    name: str
    mac: bytes
    autoneg_ns: int = 0


class E1000(SteppedPort):
    """One 82540EM, a `Port` of the bridge.

    `counters` holds a `port_counters` record at `offset`; `changed` is called when the receiver or the
    station address changes; `report` is told (reason, detail) of what a driver did wrong, once until it
    mends it.
    """

    def __init__(
        self,
        config: E1000Config,
        memory: Regions,
        line: Line,
        counters: Pinned,
        offset: int,
        changed: Callable[[], None],
        report: Report,
        clock: Callable[[], int],
    ) -> None:
        self.config, self.name = config, config.name
        self._changed, self._report = changed, report
        self._words = counters.words(offset, PORT_COUNTERS.size)
        self.registers = registers = RegisterFile(e1000.REGISTERS, UNIMPLEMENTED)
        self.read: Callable[[int, int], int] = registers.read
        """read(offset, size): what a load from the memory BAR gives."""
        self.write: Callable[[int, int, int], None] = registers.write
        """write(offset, size, value): do a store to the memory BAR."""
        self.io = IoWindow(registers)
        self.statistics = Statistics(registers)
        self.interrupts = Interrupts(registers, _CountedLine(line, self._words), clock)
        self.eeprom = Eeprom(image_for(config.mac))
        self.transmit = TransmitUnit(
            E1000Transmit(memory, counters, offset, self.statistics.pinned),
            registers,
            self.interrupts,
            self._fault,
        )
        self.receive = ReceiveUnit(
            E1000Receive(memory, counters, offset, self.statistics.pinned),
            registers,
            self.interrupts,
            self._fault,
            self._tell,
        )
        self._link_up = self._phy_in_reset = False
        self.mac = config.mac
        """The station address: that of RAL/RAH 0 while it is valid, else the EEPROM's."""
        self._told: tuple[bool, bytes] = (False, config.mac)
        self.phy = Phy(clock, config.autoneg_ns, self._link_changed)
        self._bind()
        self.reset()

    def _bind(self) -> None:
        registers = self.registers
        registers.on_read("STATUS", self._status)
        registers.on_write("CTRL", self._control)
        registers.on_write("CTRL_EXT", self._extended_control)
        registers.on_read("EECD", self.eeprom.read_eecd)
        registers.on_write("EECD", self.eeprom.write_eecd)
        registers.on_read("EERD", self.eeprom.read_eerd)
        registers.on_write("EERD", self.eeprom.write_eerd)
        registers.on_write("MDIC", self._mdic)
        registers.on_write("RCTL", self._receive_control)
        registers.protect("PBA", _TXA.mask)
        registers.on_write("PBA", self._allocation)

    # the device as a whole

    def reset(self) -> None:
        """Do a device reset (§14.7, CTRL.RST): everything but the PHY and the EEPROM's content."""
        self.registers.reset(e1000.PRESERVED_BY_RESET)
        self.eeprom.reset()
        self.interrupts.reset()
        self.statistics.reset()
        self.transmit.reset()
        self.receive.reset(self._station_from_eeprom())
        self._update_link(quiet=True)
        self._update_loopback()
        self._tell()

    def power_on(self) -> None:
        """Do a PCI reset: a device reset, the PHY too, and the registers that a device reset preserves."""
        self.registers.reset()
        self.io.reset()
        self.phy.reset()
        self.receive.filters.clear()
        self.reset()

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        first, second = self.interrupts.deadline_ns(), self.phy.deadline_ns()
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    def on_timer(self, now_ns: int) -> None:
        """Do what is due at `now_ns`."""
        self.phy.on_timer(now_ns)
        self.interrupts.on_timer(now_ns)

    def set_link(self, up: bool) -> None:
        """Plug the wire in or pull it out."""
        self.phy.plug(up)

    # Port

    @property
    def sources(self) -> Sequence[TransmitUnit]:
        """One transmit queue."""
        return (self.transmit,)

    @property
    def room(self) -> Sequence[Watched]:
        """The receive ring."""
        return (self.receive.ring,)

    @property
    def services(self) -> Sequence[tuple[Watched, Callable[[], bool]]]:
        """No ring carries anything but frames."""
        return ()

    @property
    def receiving(self) -> bool:
        """The receiver is on and there is a link to the wire."""
        return self.receive.enabled and self.transmit.loop is None

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Store the frames for port `number` from `first` on; return the index of the first that waits."""
        if not self.receiving:
            self.count_dropped("link_down", burst.count_for(number, first))
            return len(burst)
        return self.receive.deliver(burst, first, number)

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames for this guest that were dropped; one that waited too long is a missed packet
        (§13.7.5)."""
        self._words[PORT_COUNTERS.offset(f"dropped_{reason}") // 8] += frames
        if reason == "stalled" and frames:
            self.statistics.add("mpc", frames)
            self.statistics.add("tpr", frames)
            self.interrupts.cause(RXO)

    @property
    def bytes_copied(self) -> int:
        """Bytes of frames stored into the guest."""
        return self.receive.ring.bytes_copied

    # registers that concern more than one unit

    def _status(self) -> int:
        return _STATUS_DOWN | (_LU if self._link_up else 0)

    def _control(self, value: int) -> None:
        if value & _RST:
            self.reset()
            return
        if value & _PHY_RST and not self._phy_in_reset:
            self.phy.reset()
        self._phy_in_reset = bool(value & _PHY_RST)
        self._update_link()
        self.transmit.refresh()
        self.receive.refresh()

    def _extended_control(self, value: int) -> None:
        """EE_RST reads the EEPROM again (§13.4.6) and clears itself."""
        if value & _EE_RST:
            self.registers["CTRL_EXT"] &= ~_EE_RST
            self.eeprom.reset()
            self.receive.filters.reset(self._station_from_eeprom())
            self.receive.refresh()
            self._tell()

    def _mdic(self, value: int) -> None:
        answer, interrupt = self.phy.transact(value)
        self.registers["MDIC"] = answer
        self._update_loopback()
        if interrupt:
            self.interrupts.cause(MDAC)

    def _receive_control(self, _value: int) -> None:
        self.receive.refresh()
        self._update_loopback()
        self._tell()

    def _allocation(self, _value: int) -> None:
        """§13.4.16: what is not for receiving is for transmitting."""
        pba = self.registers["PBA"]
        self.registers["PBA"] = _TXA.put(max(0, _PACKET_BUFFER_KIB - _RXA.get(pba)), pba)

    # link, loopback, and who has to know

    def _link_changed(self) -> None:
        self._update_link()

    def _update_link(self, quiet: bool = False) -> None:
        """STATUS.LU follows the PHY while CTRL.SLU is set (§13.4.1 SLU, §13.4.2 LU)."""
        up = self.phy.link_up and bool(self.registers["CTRL"] & _SLU)
        changed, self._link_up = up != self._link_up, up
        self.transmit.set_link(up)
        self.receive.set_link(up)
        if changed and not quiet:
            self.interrupts.cause(LSC)
        if changed:
            self._tell()

    def _update_loopback(self) -> None:
        """§15.1.3: both the MAC and the PHY must be told."""
        looped = self.phy.loopback and _LBM.get(self.registers["RCTL"]) == e1000.LBM_PHY
        self.transmit.loop = self._loop if looped else None
        self._tell()

    def _loop(self, burst: Burst) -> None:
        """Give a burst back to its sender's receiver; what finds no descriptors is missed."""
        burst.send_all_to(_LOOPBACK_PORT)
        stored = self.receive.deliver(burst, 0, _LOOPBACK_PORT) if self.receive.enabled else len(burst)
        self.count_dropped("stalled", len(burst) - stored)

    def _station_from_eeprom(self) -> bytes | None:
        return self.eeprom.mac() if self.eeprom.valid() else None

    def _tell(self) -> None:
        """Tell the bridge when it must send differently."""
        self.mac = self.receive.filters.station() or self.eeprom.mac()
        now = (self.receiving, self.mac)
        if now != self._told:
            self._told = now
            self._changed()

    def _fault(self, code: int) -> None:
        name = fault_name(code)
        self._report(name, f"{self.name}: a descriptor ring cannot be used ({name})")


class _CountedLine:
    """The interrupt line, each assertion counted as a call of the driver."""

    def __init__(self, line: Line, words: memoryview) -> None:
        self._line, self._words = line, words

    def set_level(self, asserted: bool) -> None:
        """Pass the level on."""
        if asserted:
            self._words[PORT_COUNTERS.offset("calls") // 8] += 1
        self._line.set_level(asserted)
