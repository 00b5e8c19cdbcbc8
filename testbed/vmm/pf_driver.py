"""The driver of the 82576's physical function: brings the device up, owns what virtual functions may do.

Reference: 82576 datasheet (320961, revision 2.63) §4.6 (initialization), §7.10 (virtualization); what it sets
follows Linux's igb with `ip link set DEV vf N`. The PF's own queues are a bridge's uplink (`PfUplink`); this
file has the rest: reset, virtual functions, pools, filters, anti-spoofing, rates, link, interrupts. Not used:
RSS, header split, flow control, wake-up, MACsec, IPsec.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.deadline import earliest
from testbed.errors import ConfigError, DeviceError
from testbed.net.mac import format_mac
from testbed.pci.access import MsiMessage, RegisterBus, SizedBus
from testbed.spec import igb, igb_mailbox, igb_pci, pci
from testbed.spec.igb import field, mask
from testbed.vmm.pf_filters import Filters
from testbed.vmm.pf_functions import Vf, VfDriverState, VfSettings
from testbed.vmm.pf_mailbox import MailboxService
from testbed.vmm.pf_registers import PfRegisters

VECTOR_OTHER: Final = 0
VECTOR_RECEIVE: Final = 1
VECTOR_SEND: Final = 2
VECTORS: Final = 3
VF_VLANS_MAX: Final = igb.VLVF_ENTRIES // igb.POOLS
"""VLANs that a virtual function that is not trusted may ask for: nobody takes the others' entries."""
_ALL: Final = 0xFFFF_FFFF
_OUR_VECTORS: Final = (1 << VECTORS) - 1
MISBEHAVIOUR_NS: Final = 100_000_000
"""Least time between two looks at who sent what it may not, or had a queue stopped."""
_OTHER_INTERVAL_US: Final = 50
"""A flood of mailbox messages interrupts no more often."""
_RATE_WINDOW: Final = 0x14
"""RTTBCNRM: what igb writes for frames of the usual size."""
_FRAME_MIN_BYTES: Final = 64
_CAUSES: Final = mask("IMS", "LSC", "SWMB", "DOUTSYNC")
_DEFAULT_FRAME_BYTES: Final = 1518


@dataclass(frozen=True)
class PfBus:
    """The PF's register spaces, as a driver has them mapped."""

    registers: RegisterBus
    messages: RegisterBus
    """The MSI-X table."""
    configuration: SizedBus
    vf_configurations: Sequence[SizedBus] = ()
    """Those of the virtual functions, where guests do not have them themselves."""


@dataclass(frozen=True)
class PfDriverConfig:
    """What the topology says about one NIC.

    vectors: where its `VECTORS` interrupts go. vfs: one for each virtual function. replicate: a frame for
    several pools goes to each of them, not to one. uplink: a bridge uses the PF's own queues; else its pool
    is closed, and what no virtual function is named for is filtered.
    """

    name: str
    vectors: Sequence[MsiMessage]
    vfs: Sequence[VfSettings]
    replicate: bool = True
    uplink: bool = True


class PfDriver:
    """One NIC. DeviceError where it does not come up, ConfigError for settings that it cannot have.

    on_link: called when the link to the wire comes or goes. report: told of what a virtual function did
    wrong, by number, reason and detail.
    """

    def __init__(
        self,
        bus: PfBus,
        config: PfDriverConfig,
        clock: Callable[[], int],
        on_link: Callable[[bool], None],
        report: Callable[[int, str, str], None],
    ) -> None:
        if len(config.vfs) >= igb.POOLS:
            raise ConfigError(
                f"{config.name}: at most {igb.POOLS - 1} VFs, for the PF needs a pool of its own, "
                f"not {len(config.vfs)}"
            )
        for settings in config.vfs:
            settings.check()
        if sum(settings.promiscuous for settings in config.vfs) > igb.MIRRORS:
            raise ConfigError(
                f"{config.name}: at most {igb.MIRRORS} VFs can be promiscuous, for each takes a mirror rule"
            )
        self.config, self._bus, self._on_link, self._report = config, bus, on_link, report
        self.registers = PfRegisters(bus.registers)
        self.vfs = [Vf(number, settings) for number, settings in enumerate(config.vfs)]
        self.pool = len(self.vfs)
        """The PF's pool and queue: the one behind those of its virtual functions."""
        self._filters = Filters(self.registers, self.pool)
        self._mailbox = MailboxService(self.registers, self.vfs, self, clock)
        self.link_up = False
        self.gone = False
        """It is lost for good."""
        self.mac = bytes(6)
        self._clock = clock
        self._deaf_until_ns: int | None = None
        """Until then no interrupt tells of misbehaviour, which is found all the same when it is over."""

    # bring-up (§4.6)

    def start(self) -> None:
        """Reset the device and bring it up: virtual functions exist and wait for their drivers after this."""
        self._enable_bus_master()
        self._reset_device()
        self.mac = self._read_mac()
        self._create_vfs()
        self._set_up_switch()
        self._set_up_interrupts()
        for vf in self.vfs:
            self._stop_vf(vf)
            self._set_rate(vf)
        registers = self.registers
        registers.change("CTRL", 0, mask("CTRL", "SLU"))
        self._mailbox.start()
        registers.write("IMS", _CAUSES)
        registers.write("EIMS", _OUR_VECTORS)
        registers.change("CTRL_EXT", 0, mask("CTRL_EXT", "PFRSTD", "DRV_LOAD"))
        self._look_at_link()

    def stop(self) -> None:
        """Turn the device off: virtual functions are gone after this."""
        registers = self.registers
        registers.write("IMC", _ALL)
        registers.write("EIMC", _ALL)
        registers.write("RCTL", 0)
        registers.write("TCTL", 0)
        self._write_sriov("SRIOV_CONTROL", 0)
        self._write_sriov("NUM_VFS", 0)
        registers.write("CTRL", registers.read("CTRL") | mask("CTRL", "RST"))

    def _enable_bus_master(self) -> None:
        command = pci.HEADER["COMMAND"].offset
        self._bus.configuration.write(command, 2, pci.HEADER.mask("COMMAND", "MEMORY", "BUS_MASTER"))

    def _reset_device(self) -> None:
        registers = self.registers
        registers.write("IMC", _ALL)
        registers.write("EIMC", _ALL)
        registers.write("RCTL", 0)
        registers.write("TCTL", mask("TCTL", "PSP"))
        registers.write("CTRL", registers.read("CTRL") | mask("CTRL", "RST"))
        registers.forget()
        registers.wait("CTRL", mask("CTRL", "RST"), 0, "finish its reset")
        registers.wait("EECD", mask("EECD", "AUTO_RD"), mask("EECD", "AUTO_RD"), "read its EEPROM")
        registers.write("IMC", _ALL)
        registers.read("ICR")

    def _read_mac(self) -> bytes:
        low, high = self.registers.read("RAL"), self.registers.read("RAH")
        if not high & mask("RAH", "AV"):
            raise DeviceError(f"{self.config.name}: the device has no Ethernet address in its EEPROM")
        return low.to_bytes(4, "little") + field("RAH", "RAH").get(high).to_bytes(2, "little")

    def _create_vfs(self) -> None:
        """NumVFs before VF Enable, which fixes it (PCIe §9.3.3.7)."""
        self._write_sriov("SRIOV_CONTROL", pci.SRIOV.mask("SRIOV_CONTROL", "ARI_HIERARCHY"))
        if self.vfs:
            self._write_sriov("NUM_VFS", len(self.vfs))
            names = ("ARI_HIERARCHY", "VF_MSE", "VF_ENABLE")
            self._write_sriov("SRIOV_CONTROL", pci.SRIOV.mask("SRIOV_CONTROL", *names))

    def _write_sriov(self, name: str, value: int) -> None:
        reg = pci.SRIOV[name]
        self._bus.configuration.write(igb_pci.SRIOV + reg.offset, reg.size, value)

    def _set_up_switch(self) -> None:
        """Pools, replication, loopback and filters; the PF's pool takes what no other is named for."""
        registers = self.registers
        self._filters.reset(self.mac)
        copies = mask("VT_CTL", "RPL_EN") if self.config.replicate else 0
        registers.write("VT_CTL", field("VT_CTL", "DEF_PL").put(self.pool) | copies)
        registers.write("MRQC", field("MRQC", "MRQ_ENABLE").put(igb.MRQ_VMDQ))
        registers.write("VFRE", self._enabled())
        registers.write("VFTE", self._enabled())
        self._set_drops()
        registers.write("RLPML", igb.REGISTERS["RLPML"].reset)
        self._filters.set_mirrors(vf.number for vf in self.vfs if vf.settings.promiscuous)
        self._set_anti_spoof()
        registers.write("RCTL", mask("RCTL", "EN", "UPE", "MPE", "LPE", "BAM", "SECRC"))
        registers.write("TCTL", igb.REGISTERS["TCTL"].reset | mask("TCTL", "EN", "PSP"))

    def _set_up_interrupts(self) -> None:
        """MSI-X: other causes on vector 0, the queues' on 1 and 2, as igb has them."""
        entry = pci.MSIX_ENTRY
        for number, message in enumerate(self.config.vectors):
            values = {
                "address_low": message.address & _ALL, "address_high": message.address >> 32,
                "data": message.data, "control": 0,
            }  # fmt: skip
            for name, value in values.items():
                self._bus.messages.write32(number * entry.size + entry.offset(name), value)
        control = pci.MSIX["MSIX_CONTROL"]
        enable = pci.MSIX.mask("MSIX_CONTROL", "ENABLE")
        self._bus.configuration.write(igb_pci.MSIX + control.offset, control.size, enable)
        registers = self.registers
        registers.write("GPIE", mask("GPIE", "NSICR", "MULTIPLE_MSIX", "EIAME", "PBA_SUPPORT"))
        registers.write(
            "IVAR_MISC", field("IVAR_MISC", "OTHER").put(VECTOR_OTHER) | mask("IVAR_MISC", "OTHER_VALID")
        )
        rx = field("IVAR", "RX").put(VECTOR_RECEIVE) | mask("IVAR", "RX_VALID")
        tx = field("IVAR", "TX").put(VECTOR_SEND) | mask("IVAR", "TX_VALID")
        registers.write("IVAR", rx | tx, self.pool)
        registers.write("EITR", field("EITR", "INTERVAL").put(_OTHER_INTERVAL_US), VECTOR_OTHER)
        registers.write("EIAC", _OUR_VECTORS)
        registers.write("EIAM", _OUR_VECTORS)

    # interrupts and time

    def handle_interrupt(self, vector: int) -> bool:
        """Do what vector 0 asks for; the others are the uplink's (`PfUplink.interrupted`)."""
        if vector != VECTOR_OTHER or self.gone:
            return False
        causes = self.registers.read("ICR")
        if causes & mask("ICR", "DOUTSYNC"):
            self._look_at_spoofers()
            # who goes on costs us no more than one look in a while: the device stops it by itself
            self.registers.write("IMC", mask("IMC", "DOUTSYNC"))
            self._deaf_until_ns = self._clock() + MISBEHAVIOUR_NS
        if causes & mask("ICR", "SWMB"):
            self._mailbox.serve()
        if causes & mask("ICR", "LSC"):
            self._look_at_link()
        self.registers.write("EIMS", 1 << VECTOR_OTHER)
        return bool(causes)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        due = () if self.gone else (self._mailbox.deadline_ns(), self._deaf_until_ns)
        return earliest(due)

    def on_timer(self, now_ns: int) -> bool:
        """Do what is due; say whether anything was."""
        if self.gone:
            return False
        listens = self._deaf_until_ns is not None and now_ns >= self._deaf_until_ns
        if listens:
            self._deaf_until_ns = None
            self.registers.write("IMS", mask("IMS", "DOUTSYNC"))
        return self._mailbox.on_timer(now_ns) or listens

    def lose(self) -> None:
        """The device, or its way into memory, is gone: it has no link and is asked nothing any more."""
        self.gone = True
        changed, self.link_up = self.link_up, False
        if changed:
            self._on_link(False)

    def _look_at_link(self) -> None:
        up = bool(self.registers.read("STATUS") & mask("STATUS", "LU"))
        changed, self.link_up = up != self.link_up, up
        if changed:
            for vf in self.vfs:
                self._mailbox.notify(vf)
            self._on_link(up)

    def _look_at_spoofers(self) -> None:
        queues = self.registers.read("WVBR")
        for vf in self.vfs:
            if (queues >> igb.vf_queue(vf.number, 0) | queues >> igb.vf_queue(vf.number, 1)) & 1:
                vf.counts.spoof_events += 1
                self._report(vf.number, "spoof", "sent with an address or VLAN that is not its own")

    # the mailbox's policy

    def take_resets(self) -> bool:
        """VFLRE: whatever these virtual functions were given is taken from them until they ask again."""
        resets = self.registers.read("VFLRE")
        if not resets:
            return False
        self.registers.write("VFLRE", resets)
        for vf in self.vfs:
            if resets >> vf.number & 1:
                vf.counts.resets += 1
                self._mailbox.forget(vf)
                self._stop_vf(vf)
        return True

    def reset_vf(self, vf: Vf) -> bool:
        """A virtual function's driver starts; what it has from before is gone."""
        vf.driver = VfDriverState()
        self._filters.remove_addresses(vf.number)
        if not vf.settings.link:
            self._apply(vf)
            return False
        vf.driver.clear_to_send = True
        self._apply(vf)
        return any(vf.settings.mac)

    def set_mac(self, vf: Vf, mac: bytes) -> bool:
        """An address of its own is for a virtual function that has none from the operator, or is trusted."""
        fixed = any(vf.settings.mac) and not vf.settings.trust
        if mac[0] & 1 or not any(mac) or (fixed and mac != vf.settings.mac):
            self._refuse(vf, "mac", f"asked for the address {format_mac(mac)}")
            return False
        vf.driver.mac = mac
        if vf.settings.trust:
            vf.settings.mac = mac
        self._apply(vf)
        return True

    def change_macs(self, vf: Vf, mac: bytes | None) -> bool:
        """Further addresses are for trusted virtual functions."""
        if not vf.settings.trust:
            return False
        if mac is None:
            self._filters.remove_addresses(vf.number)
            return True
        return not mac[0] & 1 and any(mac) and self._filters.add_address(mac, vf.number)

    def set_multicast(self, vf: Vf, hashes: tuple[int, ...], everything: bool) -> bool:
        """Multicast by hash; the table is full of ones, so its pool alone decides."""
        vf.driver.hashes, vf.driver.all_multicast = hashes, everything
        self._filters.set_pool(vf)
        return True

    def set_vlan(self, vf: Vf, vlan: int, member: bool) -> bool:
        """A virtual function with a VLAN from the operator has no other; without trust it has its share."""
        if vf.settings.vlan:
            return False
        if vlan == 0:
            return True
        if member and not vf.settings.trust and len(vf.driver.vlans | {vlan}) > VF_VLANS_MAX:
            self._refuse(vf, "vlan", f"asked for VLAN {vlan} besides {VF_VLANS_MAX} and is not trusted")
            return False
        if member:
            vf.driver.vlans.add(vlan)
        else:
            vf.driver.vlans.discard(vlan)
        if self._filters.set_vlans(vf.number, vf.driver.vlans):
            return True
        vf.driver.vlans.discard(vlan)
        self._refuse(vf, "vlan", f"asked for VLAN {vlan}, where the table is full")
        return False

    def set_frame_max(self, vf: Vf, frame_max_bytes: int) -> bool:
        """The longest frame, as the driver of the virtual function counts it."""
        if not _FRAME_MIN_BYTES <= frame_max_bytes <= igb_mailbox.FRAME_MAX_BYTES:
            return False
        vf.driver.frame_max_bytes = max(frame_max_bytes, _DEFAULT_FRAME_BYTES)
        self._filters.set_pool(vf)
        return True

    def set_promiscuous(self, vf: Vf, multicast: bool) -> bool:
        """Every multicast frame is for trusted virtual functions; to want none of it is for all."""
        if multicast and not vf.settings.trust:
            self._refuse(vf, "promiscuous", "asked for every multicast frame and is not trusted")
            return False
        vf.driver.all_multicast = multicast
        self._filters.set_pool(vf)
        return True

    def _refuse(self, vf: Vf, reason: str, detail: str) -> None:
        self._report(vf.number, f"mailbox_{reason}", detail)

    # settings of the operator

    def configure(self, number: int, settings: VfSettings) -> None:
        """Give a virtual function other settings. ConfigError where it cannot have them."""
        settings.check()
        vf = self.vfs[number]
        if settings.vlan and not self._filters.has_room(number, settings.vlan):
            raise ConfigError(
                f"{self.config.name}: trusted VFs have all {igb.VLVF_ENTRIES} entries of the table of VLANs, "
                f"none is left for VLAN {settings.vlan} of VF {number}: take the trust of one of them"
            )
        before, vf.settings = vf.settings, settings
        self._set_anti_spoof()
        self._set_drops()
        self._set_rate(vf)
        restart = before.mac != settings.mac or before.vlan != settings.vlan or before.link != settings.link
        restart |= not settings.trust and len(vf.driver.vlans) > VF_VLANS_MAX
        if restart:  # its driver has to ask anew for all that it had
            vf.driver = VfDriverState()
            self._filters.remove_addresses(number)
        self._apply(vf)
        if restart:
            self._mailbox.notify(vf)

    def open_function(self, number: int) -> None:
        """Let a virtual function send requests and messages: its guest has its registers, not this."""
        space = self._bus.vf_configurations[number]
        control, command = pci.MSIX["MSIX_CONTROL"], pci.HEADER["COMMAND"]
        space.write(igb_pci.MSIX + control.offset, control.size, pci.MSIX.mask("MSIX_CONTROL", "ENABLE"))
        space.write(command.offset, command.size, pci.HEADER.mask("COMMAND", "BUS_MASTER"))

    def reset_function(self, number: int) -> None:
        """Do a function level reset of a virtual function, as before it gets into other hands."""
        control = pci.EXPRESS["DEVICE_CONTROL"]
        flr = pci.EXPRESS.mask("DEVICE_CONTROL", "FLR")
        self._bus.vf_configurations[number].write(igb_pci.EXPRESS + control.offset, control.size, flr)

    def set_uplink_addresses(self, macs: Sequence[bytes]) -> int:
        """Name addresses that are reached through the PF, so that frames of virtual functions for them go
        there and stay off the wire; return how many there was room for. Those for the others go both ways.
        """
        return self._filters.set_uplink_addresses(macs)

    def _stop_vf(self, vf: Vf) -> None:
        vf.driver = VfDriverState()
        self._filters.remove_addresses(vf.number)
        self._apply(vf)

    def _apply(self, vf: Vf) -> None:
        """Make the device do what is known of a virtual function; its pool is open last and closed first."""
        registers, bit = self.registers, 1 << vf.number
        if not vf.running:
            registers.write("VFRE", self._enabled())
            registers.write("VFTE", self._enabled())
        self._filters.set_vf_address(vf.number, vf.mac)
        vlans = {vf.settings.vlan} if vf.settings.vlan else vf.driver.vlans
        fitted = self._filters.set_vlans(vf.number, vlans)
        assert fitted, f"VF {vf.number} has VLANs {vlans}, for which there was room when it got them"
        self._filters.set_pool(vf)
        if vf.running:
            registers.write("VFRE", self._enabled() | bit)
            registers.write("VFTE", self._enabled() | bit)

    def _enabled(self) -> int:
        own = 1 << self.pool if self.config.uplink else 0
        return sum(1 << vf.number for vf in self.vfs if vf.running) | own

    def _set_anti_spoof(self) -> None:
        checked = sum(1 << vf.number for vf in self.vfs if vf.settings.spoof_check)
        value = field("DTXSWC", "MACAS").put(checked) | field("DTXSWC", "VLANAS").put(checked)
        self.registers.write("DTXSWC", value | mask("DTXSWC", "LOOPBACK_EN"))

    def _set_drops(self) -> None:
        """§8.14: by default a full receiver holds its sender back instead of losing frames."""
        queues = (
            igb.vf_queue(vf.number, n) for vf in self.vfs if vf.settings.drop for n in range(igb.VF_QUEUES)
        )
        self.registers.write("QDE", sum(1 << queue for queue in queues))

    def _set_rate(self, vf: Vf) -> None:
        """§8.12: the link's rate divided by RF; both queues of the virtual function have it."""
        rate = vf.settings.rate_bits_per_second
        value = 0
        if rate:
            divisor = (igb.LINK_BITS_PER_SECOND << igb.RATE_FRACTION_BITS) // rate
            fraction = field("RTTBCNRC", "RF_DEC").get(divisor)
            whole = min(divisor >> igb.RATE_FRACTION_BITS, (1 << field("RTTBCNRC", "RF_INT").width) - 1)
            value = field("RTTBCNRC", "RF_DEC").put(fraction) | field("RTTBCNRC", "RF_INT").put(whole)
            value |= mask("RTTBCNRC", "RS_ENA")
        for queue in range(igb.VF_QUEUES):
            self.registers.write("RTTDQSEL", igb.vf_queue(vf.number, queue))
            self.registers.write("RTTBCNRM", _RATE_WINDOW)
            self.registers.write("RTTBCNRC", value)
