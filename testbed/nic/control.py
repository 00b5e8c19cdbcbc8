"""The control side of the 82576: the registers of all its functions, resets, link, and what follows from it.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), cited as 82576 with a
section. A transport calls `read` and `write` with function (0: the PF, n: VF n-1), space (number of a BAR, or
`SPACE_CONFIGURATION`) and offset; the data side binds the queue registers in `registers`, reads `state` and
tells what it did; whoever has a clock calls `on_timer` when `deadline_ns` is over. There is no socket, loop
or thread here, and nothing that a driver does raises.

Modelled: PCI configuration of PF and VFs, device, VF and function level reset, VF windows, mailboxes,
filters, pools, switch control, transmit rates, mirror rules, RSS, interrupts by MSI-X with throttling,
statistics, anti-spoof events, EEPROM by EERD, PHY by MDIC, the software semaphore, link. Stored without
effect (and counted): see `UNIMPLEMENTED`. Not modelled: what spec/igb.py says is not there, INTx and MSI,
flow control.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from testbed.address import Bdf
from testbed.memory.register_file import RegisterFile
from testbed.nic.eeprom import Eeprom
from testbed.nic.filters import Filters
from testbed.nic.interrupt import LSC, OUT_OF_SYNC, RX_MISS, Interrupts
from testbed.nic.mailbox import Mailboxes
from testbed.nic.pci_functions import PF_LAYOUT, VF_LAYOUT, pf_bars, vf_bars
from testbed.nic.phy import Phy
from testbed.nic.statistics import Statistics
from testbed.nic.switch_state import DataSide, SwitchState
from testbed.nic.vf_window import VfWindow
from testbed.pci.bars import Bars
from testbed.pci.config_space import ConfigSpace
from testbed.pci.msix import Msix
from testbed.pci.sriov import Sriov
from testbed.spec import bar_window, igb, igb_pci
from testbed.spec.igb import field, mask

UNIMPLEMENTED: Final = (
    "FRTIMER", "TCPTIMER", "RXPBS", "TXPBS", "SWPBS", "EECD", "EEMNGCTL", "FCAL", "FCAH", "FCT", "FCTTV",
    "FCRTL", "FCRTH", "FCRTV", "GCR", "FWSM", "IOVCTL", "WUC", "WUFC", "WUS", "MANC", "LEDCTL", "PBACL",
    "PSRTYPE", "RPLPSRTYPE", "RFCTL", "SYNQF", "SAQF", "DAQF", "SPQF", "FTQF", "ETQF", "TCTL_EXT", "TIPG",
    "DTXCTL", "RTTBCNRM", "TXSWC", "DCA_RXCTRL", "DCA_TXCTRL", "TSYNCRXCFG", "SYSTIML", "SYSTIMH", "TIMINCA",
    "TIMADJL", "TIMADJH", "TSYNCTXCTL", "TXSTMPL", "TXSTMPH", "TSYNCRXCTL", "RXSTMPL", "RXSTMPH", "TSICR",
)  # fmt: skip
_RST: Final = mask("CTRL", "RST")
_PHY_RST: Final = mask("CTRL", "PHY_RST")
_SELF_CLEARING: Final = _RST
_SLU: Final = mask("CTRL", "SLU")
_EE_RST: Final = mask("CTRL_EXT", "EE_RST")
_PFRSTD: Final = mask("CTRL_EXT", "PFRSTD")
_SMBI: Final = mask("SWSM", "SMBI")
_LU: Final = mask("STATUS", "LU")
_NUM_VFS: Final = field("STATUS", "NUM_VFS")
_STATUS: Final = (
    mask("STATUS", "FD", "PHYRA", "GIO_MASTER_ENABLE", "DMA_CLOCK_GATING")
    | field("STATUS", "SPEED").put(igb.SPEED_1000)
)  # fmt: skip
_ENABLE: Final = mask("RXDCTL", "ENABLE")
_ALL_QUEUES: Final = (1 << igb.QUEUES) - 1
_ALL_ONES: Final = bar_window.ALL_ONES
PRESERVED_BY_RESET: Final = ("EECD", "SWSM", "SW_FW_SYNC", "EEMNGCTL", "LEDCTL", "GCR", "WUC", "FWSM")
"""§4.2.1.6: a device reset leaves these as they are."""

SendMessage = Callable[[int, int, int], None]


@dataclass(frozen=True)
class NicConfig:
    """What the topology says about one NIC.

    mac: six bytes. bdf: Requester ID of the physical function.
    """

    name: str
    mac: bytes
    bdf: Bdf


class NicControl:
    """One 82576, without its queues.

    send(function, address, data): writes an MSI-X message as that function.
    changed: called when `state` is another than the one read last.
    """

    def __init__(
        self, config: NicConfig, send: SendMessage, changed: Callable[[], None], clock: Callable[[], int]
    ) -> None:
        self.config, self._send = config, send
        self._data: DataSide | None = None
        self.registers = registers = RegisterFile(igb.REGISTERS, UNIMPLEMENTED)
        self.statistics = Statistics(registers)
        self.interrupts = Interrupts(registers, self._signal, clock)
        self.mailboxes = Mailboxes(registers, self.interrupts)
        self.filters = Filters(registers, changed)
        self.eeprom = Eeprom(config.mac)
        self.phy = Phy(self._link_changed)
        self._link_up, self._vfs = False, 0
        self.spoofed_frames = [0] * igb.POOLS
        """Frames that the anti-spoof checks dropped, by the pool that sent them."""
        self.resets = 0
        self.vf_resets = [0] * igb.VFS_MAX
        self._bind(registers)
        msix = Msix(igb.MSIX_VECTORS, igb_pci.PBA_OFFSET, partial(self._write_message, 0))
        self.space = ConfigSpace(PF_LAYOUT, config.bdf, pf_bars(), msix, self._pf_flr)
        self.sriov = Sriov(self.space, vf_bars(), self._vfs_changed)
        self.windows = tuple(VfWindow(self, vf) for vf in range(igb.VFS_MAX))
        self.vf_spaces = tuple(self._vf_space(vf) for vf in range(igb.VFS_MAX))
        self._reset()

    def _bind(self, registers: RegisterFile) -> None:
        registers.on_read("STATUS", self._status)
        registers.protect("CTRL", _SELF_CLEARING)
        registers.on_write("CTRL", self._control)
        registers.on_write("CTRL_EXT", self._extended_control)
        registers.on_write("EERD", self.eeprom.write_eerd)
        registers.on_read("EERD", self.eeprom.read_eerd)
        registers.on_write("MDIC", self._mdic)
        registers.on_read("SWSM", self._read_semaphore)

    def _vf_space(self, vf: int) -> ConfigSpace:
        msix = Msix(igb.VF_VECTORS, igb_pci.PBA_OFFSET, partial(self._write_message, vf + 1))
        return ConfigSpace(VF_LAYOUT, self.sriov.requester_id(vf), Bars(), msix, partial(self.reset_vf, vf))

    def attach(self, data: DataSide) -> None:
        """Have the data side told of resets."""
        self._data = data

    # the transport

    def read(self, function: int, space: int, offset: int, size_bytes: int) -> int:
        """Return what a load gives; all ones where no function or space answers."""
        if function > self.sriov.vfs:
            return _ALL_ONES & (1 << 8 * size_bytes) - 1
        if space == bar_window.SPACE_CONFIGURATION:
            return self._space(function).read(offset, size_bytes)
        if space == igb_pci.MSIX_BAR:
            return self._space(function).msix.read(offset, size_bytes)
        if space != igb_pci.REGISTERS_BAR:
            return _ALL_ONES & (1 << 8 * size_bytes) - 1
        if function:
            return self.windows[function - 1].read(offset, size_bytes)
        return self.registers.read(igb.queue_address(offset), size_bytes)

    def write(self, function: int, space: int, offset: int, size_bytes: int, value: int) -> None:
        """Do a store; ignored where no function or space answers."""
        if function > self.sriov.vfs:
            return
        if space == bar_window.SPACE_CONFIGURATION:
            self._space(function).write(offset, size_bytes, value)
        elif space == igb_pci.MSIX_BAR:
            self._space(function).msix.write(offset, size_bytes, value)
        elif space == igb_pci.REGISTERS_BAR:
            if function:
                self.windows[function - 1].write(offset, size_bytes, value)
            else:
                self.registers.write(igb.queue_address(offset), size_bytes, value)

    def _space(self, function: int) -> ConfigSpace:
        return self.vf_spaces[function - 1] if function else self.space

    # the data side

    @property
    def state(self) -> SwitchState:
        """What the registers say now."""
        return self.filters.state

    def received(self, queues: int) -> None:
        """Descriptors of these receive queues were written back."""
        self.interrupts.received(queues)

    def transmitted(self, queues: int) -> None:
        """Descriptors with RS of these transmit queues were written back."""
        self.interrupts.transmitted(queues)

    def spoofed(self, queue: int, frames: int) -> None:
        """Frames of a transmit queue were dropped by the anti-spoof checks (§7.10.3.9)."""
        self.registers["WVBR"] |= 1 << queue
        self.spoofed_frames[queue % igb.POOLS] += frames
        self.statistics.add("ssvpc", frames)
        self.interrupts.cause(OUT_OF_SYNC)

    def dropped(self, queue: int, frames: int) -> None:
        """Frames for a receive queue were dropped for want of descriptors."""
        self.statistics.dropped(queue, frames)
        self.interrupts.cause(RX_MISS)

    # the wire and the clock

    def set_wire(self, up: bool) -> None:
        """Plug the wire in or pull it out."""
        self.phy.plug(up)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        return self.interrupts.deadline_ns()

    def on_timer(self, now_ns: int) -> None:
        """Do what is due at `now_ns`."""
        self.interrupts.on_timer(now_ns)

    # resets

    def power_on(self) -> None:
        """Do a PCI reset: everything, of every function."""
        self.space.reset()
        self._pf_flr()
        self.registers.reset()

    def reset_vf(self, vf: int) -> None:
        """Reset a virtual function (§4.2.2.4): by VTCTRL.RST, or a function level reset."""
        self.vf_resets[vf] += 1
        self._forget_vf(vf)
        self.registers["VFRE"] &= ~(1 << vf)
        self.registers["VFTE"] &= ~(1 << vf)
        self.filters.outdated()
        self.mailboxes.vf_reset(vf)

    def _forget_vf(self, vf: int) -> None:
        self._reset_queues(1 << igb.vf_queue(vf, 0) | 1 << igb.vf_queue(vf, 1))
        self.interrupts.reset_vf(vf)
        self.statistics.reset_pool(vf)
        self.windows[vf].reset()

    def _reset(self) -> None:
        """Do a device reset (§4.2.1.6, CTRL.RST): all but PCI configuration, PHY and EEPROM."""
        self.resets += 1
        self.registers.reset(PRESERVED_BY_RESET)
        self.interrupts.reset()
        self.statistics.reset()
        for window in self.windows:
            window.reset()
        self._enable_queue_0()
        self._load_address()
        self.mailboxes.pf_reset()
        self.filters.reset()
        self._update_link(quiet=True)
        if self._data is not None:
            self._data.reset_queues(_ALL_QUEUES)

    def _pf_flr(self) -> None:
        """A function level reset of the PF takes the virtual functions with it (PCIe §9.3.3.3.1)."""
        self.sriov.reset()
        self._reset()

    def _reset_queues(self, queues: int) -> None:
        for names in (igb.RX_QUEUE_REGISTERS, igb.TX_QUEUE_REGISTERS):
            for name in names:
                reg = igb.REGISTERS[name]
                for queue in range(reg.count):
                    if queues >> queue & 1:
                        self.registers.put(name, queue, reg.reset)
        if self._data is not None:
            self._data.reset_queues(queues)

    def _enable_queue_0(self) -> None:
        """§8.10, §8.12: queue 0 is enabled after a reset, the others are not."""
        for name in ("RXDCTL", "TXDCTL"):
            self.registers.put(name, 0, igb.REGISTERS[name].reset | _ENABLE)

    def _load_address(self) -> None:
        """§6.2.1: RAL/RAH 0 come from the EEPROM; they are in pool 0."""
        mac = self.eeprom.mac()
        self.registers.put("RAL", 0, int.from_bytes(mac[:4], "little"))
        self.registers.put("RAH", 0, int.from_bytes(mac[4:], "little") | mask("RAH", "AV"))

    def _vfs_changed(self, vfs: int) -> None:
        """Virtual functions came or went: nothing of an earlier one is left in them."""
        self.interrupts.set_vfs(vfs)
        for vf in range(max(vfs, self._vfs)):
            self.vf_spaces[vf].reset()
            self._forget_vf(vf)
        self._vfs = vfs

    # registers that concern more than one unit

    def _status(self) -> int:
        vfs = self.sriov.vfs
        iov = mask("STATUS", "IOV_MODE") | _NUM_VFS.put(vfs) if vfs else 0
        return _STATUS | iov | (_LU if self._link_up else 0)

    def _control(self, value: int) -> None:
        if value & _RST:
            self._reset()
            return
        if value & _PHY_RST:
            self.phy.reset()
        self._update_link()

    def _extended_control(self, value: int) -> None:
        """EE_RST clears itself; PFRSTD tells the virtual functions (§8.2.3)."""
        if value & _EE_RST:
            self.registers["CTRL_EXT"] &= ~_EE_RST
            self._load_address()
            self.filters.outdated()
        if value & _PFRSTD:
            self.mailboxes.pf_reset_done()

    def _mdic(self, value: int) -> None:
        self.registers["MDIC"] = self.phy.transact(value)

    def _read_semaphore(self) -> int:
        """§8.7: reading SMBI sets it, so that only one reader finds it clear."""
        value = self.registers["SWSM"]
        self.registers["SWSM"] = value | _SMBI
        return value

    # link

    @property
    def link_up(self) -> bool:
        """STATUS.LU."""
        return self._link_up

    def _link_changed(self) -> None:
        self._update_link()

    def _update_link(self, quiet: bool = False) -> None:
        """STATUS.LU follows the PHY while CTRL.SLU is set (§8.2.1)."""
        up = self.phy.link_up and bool(self.registers["CTRL"] & _SLU)
        changed, self._link_up = up != self._link_up, up
        self.filters.set_link(up)
        if changed and not quiet:
            self.interrupts.cause(LSC)

    # messages

    def _signal(self, function: int, vector: int) -> None:
        self._space(function).msix.signal(vector)

    def _write_message(self, function: int, address: int, data: int) -> None:
        """A function that is no bus master cannot write (PCIe §7.5.1.1.3)."""
        if self._space(function).bus_master:
            self._send(function, address, data)
