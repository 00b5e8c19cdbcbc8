"""The configuration spaces of the 82576: what a physical and a virtual function have.

Reference: 82576 datasheet (320961, revision 2.63) chapter 9; PCI Express Base Specification §9.3.4 for what
a virtual function's header lacks.
"""

from typing import Final

from testbed.pci.bars import Bar, Bars
from testbed.pci.config_space import FunctionLayout
from testbed.spec import igb, igb_pci, pci

PF_LAYOUT: Final = FunctionLayout(
    "82576",
    (
        (igb_pci.PM, pci.POWER_MANAGEMENT),
        (igb_pci.MSIX, pci.MSIX),
        (igb_pci.EXPRESS, pci.EXPRESS),
        (igb_pci.AER, pci.ERROR_REPORTING),
        (igb_pci.ARI, pci.ARI),
        (igb_pci.SRIOV, pci.SRIOV),
    ),
    igb_pci.PF_VALUES,
)
VF_LAYOUT: Final = FunctionLayout(
    "82576VF",
    (
        (igb_pci.EXPRESS, pci.EXPRESS),
        (igb_pci.MSIX, pci.MSIX),
        (igb_pci.AER, pci.ERROR_REPORTING),
        (igb_pci.ARI, pci.ARI),
    ),
    igb_pci.VF_VALUES,
    read_only=pci.HEADER.mask("COMMAND", "IO", "MEMORY", "INTX_DISABLE"),
)


def pf_bars() -> Bars:
    """Return the physical function's BARs."""
    registers, msix = igb_pci.REGISTERS_BAR, igb_pci.MSIX_BAR
    return Bars(Bar(registers, igb_pci.BAR_BYTES[registers]), Bar(msix, igb_pci.BAR_BYTES[msix], wide=True))


def vf_bars() -> Bars:
    """Return the BARs of all virtual functions, as the SR-IOV capability has them."""
    return Bars(
        *(
            Bar(index, size_bytes, wide=True, prefetchable=True, count=igb.VFS_MAX)
            for index, size_bytes in igb_pci.VF_BAR_BYTES.items()
        )
    )
