"""The registers with which software tells a redistributor where its LPIs' tables are.

Reference: ARM IHI 0069 H.b §12.11 (GICR_CTLR, GICR_TYPER, GICR_PROPBASER, GICR_PENDBASER). Tables count from
the moment EnableLPIs is set, and their registers are read-only from then on. Not modelled: EnableLPIs cleared
again (CES is 0: a write that would is ignored), SGIs and PPIs of the host's processors, INVLPIR (IR is 0),
GICR_VPENDBASER (a hypervisor schedules a vPE by its page, `testbed.native.VpePort`).
"""

from testbed.iommu.its_redistributor import LpiTables, Redistributor
from testbed.memory.register_file import RegisterFile
from testbed.spec import gic_registers as g
from testbed.spec import lpi

_ALL_ONES = (1 << 64) - 1


class LpiFrame:
    """The RD_base frame of one host processor."""

    def __init__(self, redistributor: Redistributor, processor: int = 0) -> None:
        self._redistributor = redistributor
        self.registers = RegisterFile(g.GICR_RD, narrow_writes=("PROPBASER", "PENDBASER"))
        self.registers["TYPER"] = (
            g.GICR_TYPER_PLPIS.put(1)
            | g.GICR_TYPER_VLPIS.put(1)
            | g.GICR_TYPER_LAST.put(1)
            | g.GICR_TYPER_PROCESSOR.put(processor)
        )
        self.registers.on_write("CTLR", self._write_ctlr)

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the frame gives."""
        return self.registers.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the frame."""
        self.registers.write(offset, size_bytes, value)

    def _write_ctlr(self, value: int) -> None:
        enabled = self._redistributor.tables is not None
        enabling = bool(g.GICR_CTLR_ENABLE_LPIS.get(value))
        self.registers["CTLR"] = g.GICR_CTLR_ENABLE_LPIS.put(enabled or enabling)
        if enabled or not enabling:
            return
        properties, pending = self.registers["PROPBASER"], self.registers["PENDBASER"]
        self._redistributor.tables = LpiTables(
            g.PROPBASER_ADDRESS.get(properties) << g.PROPBASER_ADDRESS.lsb,
            g.PENDBASER_ADDRESS.get(pending) << g.PENDBASER_ADDRESS.lsb,
            max(g.PROPBASER_IDBITS.get(properties) + 1, lpi.ID_BITS_MIN),
        )
        for name in ("PROPBASER", "PENDBASER"):
            self.registers.protect(name, _ALL_ONES)
