"""The PCI declarations against numbers typed a second time from the PCI Express Base Specification."""

import pytest

from testbed.spec import igb_pci, pci
from testbed.spec.layout import RegisterMap

# Offsets from Figures 7-4, 7-10 (header), 7-31 ff. (capabilities) and 9-13 (SR-IOV).
OFFSETS = {
    "HEADER": (
        pci.HEADER,
        "VENDOR_ID 0 2|DEVICE_ID 2 2|COMMAND 4 2|STATUS 6 2|REVISION_ID 8 1|CLASS_CODE 9 3|"
        "CACHE_LINE_SIZE 12 1|LATENCY_TIMER 13 1|HEADER_TYPE 14 1|BIST 15 1|BAR 16 4|CARDBUS_CIS 40 4|"
        "SUBSYSTEM_VENDOR_ID 44 2|"
        "SUBSYSTEM_ID 46 2|EXPANSION_ROM 48 4|CAPABILITIES 52 1|INTERRUPT_LINE 60 1|INTERRUPT_PIN 61 1|"
        "MIN_GNT 62 1|MAX_LAT 63 1",
    ),
    "POWER_MANAGEMENT": (pci.POWER_MANAGEMENT, "PM_ID 0 1|PM_NEXT 1 1|PMC 2 2|PMCSR 4 2"),
    "MSIX": (pci.MSIX, "MSIX_ID 0 1|MSIX_NEXT 1 1|MSIX_CONTROL 2 2|MSIX_TABLE 4 4|MSIX_PBA 8 4"),
    "EXPRESS": (
        pci.EXPRESS,
        "EXPRESS_ID 0 1|EXPRESS_NEXT 1 1|EXPRESS_CAPABILITIES 2 2|DEVICE_CAPABILITIES 4 4|DEVICE_CONTROL 8 2|"
        "DEVICE_STATUS 10 2|LINK_CAPABILITIES 12 4|LINK_CONTROL 16 2|LINK_STATUS 18 2|"
        "DEVICE_CAPABILITIES_2 36 4|DEVICE_CONTROL_2 40 2|DEVICE_STATUS_2 42 2|LINK_CAPABILITIES_2 44 4|"
        "LINK_CONTROL_2 48 2|LINK_STATUS_2 50 2",
    ),
    "ERROR_REPORTING": (
        pci.ERROR_REPORTING,
        "AER_HEADER 0 4|UNCORRECTABLE_STATUS 4 4|UNCORRECTABLE_MASK 8 4|UNCORRECTABLE_SEVERITY 12 4|"
        "CORRECTABLE_STATUS 16 4|CORRECTABLE_MASK 20 4|AER_CONTROL 24 4|HEADER_LOG 28 4",
    ),
    "ARI": (pci.ARI, "ARI_HEADER 0 4|ARI_CAPABILITY 4 2|ARI_CONTROL 6 2"),
    "SRIOV": (
        pci.SRIOV,
        "SRIOV_HEADER 0 4|SRIOV_CAPABILITIES 4 4|SRIOV_CONTROL 8 2|SRIOV_STATUS 10 2|INITIAL_VFS 12 2|"
        "TOTAL_VFS 14 2|NUM_VFS 16 2|FUNCTION_DEPENDENCY 18 1|FIRST_VF_OFFSET 20 2|VF_STRIDE 22 2|"
        "VF_DEVICE_ID 26 2|SUPPORTED_PAGE_SIZES 28 4|SYSTEM_PAGE_SIZE 32 4|VF_BAR 36 4|MIGRATION_STATE 60 4",
    ),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_and_sizes(name: str) -> None:
    block, text = OFFSETS[name]
    typed = {row.split()[0]: tuple(map(int, row.split()[1:])) for row in text.split("|")}
    assert {reg.name: (reg.offset, reg.size) for reg in block.registers} == typed


FIELDS = [
    (pci.HEADER, "COMMAND", "MEMORY", 0x2), (pci.HEADER, "COMMAND", "BUS_MASTER", 0x4),
    (pci.HEADER, "COMMAND", "INTX_DISABLE", 0x400), (pci.MSIX, "MSIX_CONTROL", "TABLE_SIZE", 0x7FF),
    (pci.MSIX, "MSIX_CONTROL", "FUNCTION_MASK", 0x4000), (pci.MSIX, "MSIX_CONTROL", "ENABLE", 0x8000),
    (pci.MSIX, "MSIX_TABLE", "BIR", 0x7), (pci.EXPRESS, "DEVICE_CAPABILITIES", "FLR", 0x1000_0000),
    (pci.EXPRESS, "DEVICE_CONTROL", "FLR", 0x8000),
    (pci.EXPRESS, "DEVICE_CONTROL", "MAX_READ_REQUEST", 0x7000),
    (pci.SRIOV, "SRIOV_CONTROL", "VF_ENABLE", 0x1), (pci.SRIOV, "SRIOV_CONTROL", "VF_MSE", 0x8),
    (pci.SRIOV, "SRIOV_CONTROL", "ARI_HIERARCHY", 0x10),
]  # fmt: skip


@pytest.mark.parametrize(("block", "register", "name", "mask"), FIELDS)
def test_bits(block: RegisterMap, register: str, name: str, mask: int) -> None:
    assert block.mask(register, name) == mask


def test_identifiers() -> None:
    heads = (pci.POWER_MANAGEMENT["PM_ID"], pci.MSIX["MSIX_ID"], pci.EXPRESS["EXPRESS_ID"])
    assert [reg.reset for reg in heads] == [0x01, 0x11, 0x10]
    extended = (pci.ERROR_REPORTING["AER_HEADER"], pci.ARI["ARI_HEADER"], pci.SRIOV["SRIOV_HEADER"])
    assert [reg.reset for reg in extended] == [0x10001, 0x1000E, 0x10010]


def test_msix_entry() -> None:
    entry = pci.MSIX_ENTRY
    places = [entry.offset(name) for name in ("address_low", "address_high", "data", "control")]
    assert (places, entry.size, pci.MSIX_MASKED) == ([0, 4, 8, 12], 16, 1)


def test_bar_bits() -> None:
    assert (pci.BAR_IO, pci.BAR_64_BIT, pci.BAR_PREFETCHABLE, pci.BAR_FLAGS_MASK) == (1, 4, 8, 15)


def test_places_in_the_82576() -> None:
    # As lspci shows them: capabilities 40, 70, a0, 100, 150, 160; MSI-X table and PBA in BAR 3.
    places = (igb_pci.PM, igb_pci.MSIX, igb_pci.EXPRESS, igb_pci.AER, igb_pci.ARI, igb_pci.SRIOV)
    assert places == (0x40, 0x70, 0xA0, 0x100, 0x150, 0x160)
    assert (igb_pci.PF_VALUES["MSIX_CONTROL"], igb_pci.VF_VALUES["MSIX_CONTROL"]) == (9, 2)
    assert (igb_pci.PF_VALUES["MSIX_TABLE"], igb_pci.PF_VALUES["MSIX_PBA"]) == (3, 0x2003)
    assert (igb_pci.FIRST_VF_OFFSET, igb_pci.VF_STRIDE, igb_pci.PF_VALUES["TOTAL_VFS"]) == (128, 2, 8)
    assert igb_pci.SUPPORTED_PAGE_SIZES == 0x553
