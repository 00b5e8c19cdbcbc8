"""A host's ITS and the LPIs of its processor as their hypervisor drives them.

Reference: ARM IHI 0069 H.b §5.3 (commands), §6.1 (LPIs), chapter 6 (vPEs), §12.11. What a guest's kernel does
with its ITS, too, is in testbed/pci/its_software.py. Everything is mapped to the one processor that
the hypervisor has. Not modelled: several processors that take LPIs (vPEs move between residency and none).
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.errors import DeviceError
from testbed.memory.access import MemoryAccess
from testbed.pci.access import SizedBus
from testbed.pci.its_software import PROCESSOR, ItsSoftware, put
from testbed.spec import gic_registers as g
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec import lpi

PRIORITY: Final = 0xA0
COLLECTION: Final = PROCESSOR
VPT_BYTES: Final = 1 << s.VPT_ALIGN_BITS


class ItsDriver(ItsSoftware):
    """Drives one ITS and one redistributor; parameters as `ItsSoftware`."""

    def __init__(
        self,
        its: SizedBus,
        redistributor: SizedBus,
        memory: MemoryAccess,
        allocate: Callable[[int], int],
        pause: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(its, memory, allocate, pause, clock_ns)
        self._redistributor = redistributor
        self._config = self._lpis = self._vpes = 0

    def start(self, processors: int = 1) -> None:
        """Give both their tables and enable them; map the processor's collection."""
        self._enable_lpis()
        super().start(processors)

    # events

    def map_lpi(self, device: int, event: int) -> int:
        """Lead an event to the hypervisor; return the LPI, enabled."""
        intid = self._enabled_lpi()
        self.map_event(device, event, intid)
        return intid

    def map_vlpi(self, device: int, event: int, vpe: int, vintid: int, doorbell: int) -> None:
        """Lead an event straight to a vPE."""
        fields = (c.VMAPTI_VINTID, vintid), (c.VMAPTI_DOORBELL, doorbell), (c.COMMAND_VPE, vpe)
        self.of_event(c.OP_VMAPTI, device, event, *fields)
        self._vsync(vpe)

    def move_vlpi(self, device: int, event: int, vpe: int, doorbell: int | None = None) -> None:
        """Lead an event to another vPE, with what is pending; doorbell: None keeps the one that it has."""
        rings = () if doorbell is None else ((c.VMOVI_D, 1), (c.VMAPTI_DOORBELL, doorbell))
        self.of_event(c.OP_VMOVI, device, event, (c.COMMAND_VPE, vpe), *rings)
        self._vsync(vpe)

    def vpe_changed(self, vpe: int) -> None:
        """The guest has configured virtual LPIs of a vPE anew."""
        self.command(c.OP_VINVALL, (c.COMMAND_VPE, vpe))
        self._vsync(vpe)

    # vPEs

    def map_vpe(self, vpt: int) -> int:
        """Make a vPE of a virtual pending table; return its vPEID."""
        vpe = self._vpes
        self._vpes += 1
        size = (c.VMAPP_VPT_SIZE, lpi.ID_BITS_MIN - 1), (c.VMAPP_VPT, vpt >> s.VPT_ALIGN_BITS)
        self.command(c.OP_VMAPP, (c.COMMAND_VPE, vpe), (c.COMMAND_RDBASE, PROCESSOR), *size, (c.COMMAND_V, 1))
        self._vsync(vpe)
        return vpe

    def unmap_vpe(self, vpe: int) -> None:
        """Forget a vPE; events that lead to it lead nowhere."""
        self.command(c.OP_VMAPP, (c.COMMAND_VPE, vpe))
        self.sync()

    def doorbell(self) -> int:
        """Return an enabled LPI that nothing is mapped to, for vPEs that are not resident."""
        intid = self._enabled_lpi()
        # no event leads to it that INV could name (GICv4.0 has no INVDB)
        self.command(c.OP_INVALL, (c.COMMAND_ICID, COLLECTION))
        self.sync()
        return intid

    def _vsync(self, vpe: int) -> None:
        self.command(c.OP_VSYNC, (c.COMMAND_VPE, vpe))
        self.sync()

    # LPIs

    def _enable_lpis(self) -> None:
        bits = lpi.ID_BITS_MIN
        self._config = self._allocate(lpi.config_bytes(bits))
        pending = self._allocate(1 << g.PENDBASER_ADDRESS.lsb)
        put(self._redistributor, g.GICR_RD, "PROPBASER", g.PROPBASER_IDBITS.put(bits - 1, self._config))
        put(self._redistributor, g.GICR_RD, "PENDBASER", g.PENDBASER_PTZ.put(1, pending))
        put(self._redistributor, g.GICR_RD, "CTLR", g.GICR_CTLR_ENABLE_LPIS.put(1))

    def _enabled_lpi(self) -> int:
        if self._lpis == lpi.HOST_LPIS:
            raise DeviceError(f"a host has {lpi.HOST_LPIS} LPIs, and all are mapped")
        intid = lpi.LPI_FIRST + self._lpis
        self._lpis += 1
        self._memory.write(self._config + lpi.config_offset(intid), bytes([PRIORITY | lpi.LPI_ENABLE.mask]))
        return intid
