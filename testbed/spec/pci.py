"""PCI configuration space: the type 0 header, the capabilities that our functions have, the MSI-X table.

Reference: PCI Express Base Specification 5.0 (PCIe), chapter 7 and §9.3 (single root I/O virtualization);
offsets are relative to the beginning of the header or of the capability. Initial values are those that every
function has; what differs between functions is given where a configuration space is built.
Not here: MSI, power budgeting, type 1 headers, and bits whose features no function of ours has.
"""

from typing import Final

from testbed.spec.layout import Access, Field, Record, Reg, RegisterMap, bit_fields

RO, RW, W1C = Access.RO, Access.RW, Access.W1C

CONFIGURATION_BYTES: Final = 4096
BARS: Final = 6
VENDOR_NONE: Final = 0xFFFF
"""§9.3.4.1.1: vendor and device ID of a virtual function."""


def _reg(
    name: str, offset: int, size: int, access: Access, section: str, doc: str, reset: int = 0, bits: str = "",
    count: int = 1,
) -> Reg:  # fmt: skip
    return Reg(name, offset, access, reset, f"PCIe §{section}", doc, size, count, bits=bit_fields(bits))


HEADER: Final = RegisterMap(
    "type 0 header", 0x40,
    _reg("VENDOR_ID", 0x00, 2, RO, "7.5.1.1.1", "Vendor ID"),
    _reg("DEVICE_ID", 0x02, 2, RO, "7.5.1.1.2", "Device ID"),
    _reg("COMMAND", 0x04, 2, RW, "7.5.1.1.3", "Command", 0,
         "IO 0, MEMORY 1, BUS_MASTER 2, PARITY_RESPONSE 6, SERR 8, INTX_DISABLE 10"),
    _reg("STATUS", 0x06, 2, W1C, "7.5.1.1.4", "Status; CAPABILITIES is always set", 0x10,
         "MASTER_PARITY 8, SIGNALED_TARGET_ABORT 11, RECEIVED_TARGET_ABORT 12, RECEIVED_MASTER_ABORT 13,"
         "SIGNALED_SYSTEM_ERROR 14, PARITY_ERROR 15"),
    _reg("REVISION_ID", 0x08, 1, RO, "7.5.1.1.5", "Revision ID"),
    _reg("CLASS_CODE", 0x09, 3, RO, "7.5.1.1.6", "Class Code"),
    _reg("CACHE_LINE_SIZE", 0x0C, 1, RW, "7.5.1.1.7", "Cache Line Size, without effect"),
    _reg("LATENCY_TIMER", 0x0D, 1, RO, "7.5.1.1.8", "Latency Timer"),
    _reg("HEADER_TYPE", 0x0E, 1, RO, "7.5.1.1.9", "Header Type"),
    _reg("BIST", 0x0F, 1, RO, "7.5.1.1.10", "Built-in Self Test"),
    _reg("BAR", 0x10, 4, RW, "7.5.1.2.1", "Base Address Registers", count=BARS),
    _reg("CARDBUS_CIS", 0x28, 4, RO, "7.5.1.2.2", "CardBus CIS Pointer"),
    _reg("SUBSYSTEM_VENDOR_ID", 0x2C, 2, RO, "7.5.1.2.3", "Subsystem Vendor ID"),
    _reg("SUBSYSTEM_ID", 0x2E, 2, RO, "7.5.1.2.3", "Subsystem ID"),
    _reg("EXPANSION_ROM", 0x30, 4, RO, "7.5.1.2.4", "Expansion ROM Base Address: there is no ROM"),
    _reg("CAPABILITIES", 0x34, 1, RO, "7.5.1.1.11", "Capabilities Pointer"),
    _reg("INTERRUPT_LINE", 0x3C, 1, RW, "7.5.1.1.12", "Interrupt Line, for software"),
    _reg("INTERRUPT_PIN", 0x3D, 1, RO, "7.5.1.1.13", "Interrupt Pin"),
    _reg("MIN_GNT", 0x3E, 1, RO, "7.5.1.2.5", "Min_Gnt"),
    _reg("MAX_LAT", 0x3F, 1, RO, "7.5.1.2.5", "Max_Lat"),
)  # fmt: skip

POWER_MANAGEMENT: Final = RegisterMap(
    "power management", 8,
    _reg("PM_ID", 0x0, 1, RO, "7.5.2.1", "Capability ID", 0x01),
    _reg("PM_NEXT", 0x1, 1, RO, "7.5.2.1", "Next Capability"),
    _reg("PMC", 0x2, 2, RO, "7.5.2.1", "Power Management Capabilities: version 2", 0x0022),
    _reg("PMCSR", 0x4, 2, RW, "7.5.2.2", "Power Management Control/Status", 0, "STATE 0:2, PME_EN 8"),
)  # fmt: skip

MSIX: Final = RegisterMap(
    "MSI-X", 12,
    _reg("MSIX_ID", 0x0, 1, RO, "7.7.2.1", "Capability ID", 0x11),
    _reg("MSIX_NEXT", 0x1, 1, RO, "7.7.2.1", "Next Capability"),
    _reg("MSIX_CONTROL", 0x2, 2, RW, "7.7.2.2", "Message Control", 0,
         "TABLE_SIZE 0:11, FUNCTION_MASK 14, ENABLE 15"),
    _reg("MSIX_TABLE", 0x4, 4, RO, "7.7.2.3", "Table Offset, Table BIR", 0, "BIR 0:3, OFFSET 3:29"),
    _reg("MSIX_PBA", 0x8, 4, RO, "7.7.2.4", "PBA Offset, PBA BIR", 0, "BIR 0:3, OFFSET 3:29"),
)  # fmt: skip

EXPRESS: Final = RegisterMap(
    "PCI Express", 0x3C,
    _reg("EXPRESS_ID", 0x00, 1, RO, "7.5.3.1", "Capability ID", 0x10),
    _reg("EXPRESS_NEXT", 0x01, 1, RO, "7.5.3.1", "Next Capability"),
    _reg("EXPRESS_CAPABILITIES", 0x02, 2, RO, "7.5.3.2", "version 2, endpoint", 0x0002),
    _reg("DEVICE_CAPABILITIES", 0x04, 4, RO, "7.5.3.3",
         "extended tags, role-based errors, function level reset", 0x1000_8020, "FLR 28"),
    _reg("DEVICE_CONTROL", 0x08, 2, RW, "7.5.3.4", "Device Control", 0,
         "CORRECTABLE_REPORT 0, NON_FATAL_REPORT 1, FATAL_REPORT 2, UNSUPPORTED_REPORT 3, RELAXED_ORDERING 4,"
         "MAX_PAYLOAD 5:3, EXTENDED_TAG 8, NO_SNOOP 11, MAX_READ_REQUEST 12:3, FLR 15"),
    _reg("DEVICE_STATUS", 0x0A, 2, W1C, "7.5.3.5", "Device Status", 0,
         "CORRECTABLE 0, NON_FATAL 1, FATAL 2, UNSUPPORTED 3"),
    _reg("LINK_CAPABILITIES", 0x0C, 4, RO, "7.5.3.6", "2.5 GT/s, one lane, L0s", 0x0000_0411),
    _reg("LINK_CONTROL", 0x10, 2, RW, "7.5.3.7", "Link Control", 0, "ASPM 0:2, COMMON_CLOCK 6"),
    _reg("LINK_STATUS", 0x12, 2, RO, "7.5.3.8", "2.5 GT/s, one lane", 0x0011),
    _reg("DEVICE_CAPABILITIES_2", 0x24, 4, RO, "7.5.3.15", "Device Capabilities 2"),
    _reg("DEVICE_CONTROL_2", 0x28, 2, RO, "7.5.3.16", "Device Control 2: nothing that could be controlled"),
    _reg("DEVICE_STATUS_2", 0x2A, 2, RO, "7.5.3.17", "Device Status 2"),
    _reg("LINK_CAPABILITIES_2", 0x2C, 4, RO, "7.5.3.18", "Link Capabilities 2"),
    _reg("LINK_CONTROL_2", 0x30, 2, RO, "7.5.3.19", "Link Control 2"),
    _reg("LINK_STATUS_2", 0x32, 2, RO, "7.5.3.20", "Link Status 2"),
)  # fmt: skip

_EXTENDED: Final = "ID 0:16, VERSION 16:4, NEXT 20:12"

ERROR_REPORTING: Final = RegisterMap(
    "advanced error reporting", 0x38,
    _reg("AER_HEADER", 0x00, 4, RO, "7.8.4.1", "Extended Capability Header", 0x0001_0001, _EXTENDED),
    _reg("UNCORRECTABLE_STATUS", 0x04, 4, W1C, "7.8.4.2", "Uncorrectable Error Status"),
    _reg("UNCORRECTABLE_MASK", 0x08, 4, RW, "7.8.4.3", "Uncorrectable Error Mask", 0x0240_0000),
    _reg("UNCORRECTABLE_SEVERITY", 0x0C, 4, RW, "7.8.4.4", "Uncorrectable Error Severity", 0x0046_2030),
    _reg("CORRECTABLE_STATUS", 0x10, 4, W1C, "7.8.4.5", "Correctable Error Status"),
    _reg("CORRECTABLE_MASK", 0x14, 4, RW, "7.8.4.6", "Correctable Error Mask", 0x0000_E000),
    _reg("AER_CONTROL", 0x18, 4, RO, "7.8.4.7", "Advanced Error Capabilities and Control", 0x0000_00A0),
    _reg("HEADER_LOG", 0x1C, 4, RO, "7.8.4.8", "Header Log", count=4),
)  # fmt: skip

ARI: Final = RegisterMap(
    "alternative routing-ID interpretation", 8,
    _reg("ARI_HEADER", 0x0, 4, RO, "7.8.7.1", "Extended Capability Header", 0x0001_000E, _EXTENDED),
    _reg("ARI_CAPABILITY", 0x4, 2, RO, "7.8.7.2", "ARI Capability", 0, "NEXT_FUNCTION 8:8"),
    _reg("ARI_CONTROL", 0x6, 2, RO, "7.8.7.3", "ARI Control"),
)  # fmt: skip

SRIOV: Final = RegisterMap(
    "single root I/O virtualization", 0x40,
    _reg("SRIOV_HEADER", 0x00, 4, RO, "9.3.3.1", "Extended Capability Header", 0x0001_0010, _EXTENDED),
    _reg("SRIOV_CAPABILITIES", 0x04, 4, RO, "9.3.3.2", "SR-IOV Capabilities: no migration"),
    _reg("SRIOV_CONTROL", 0x08, 2, RW, "9.3.3.3", "SR-IOV Control", 0,
         "VF_ENABLE 0, VF_MSE 3, ARI_HIERARCHY 4"),
    _reg("SRIOV_STATUS", 0x0A, 2, RO, "9.3.3.4", "SR-IOV Status"),
    _reg("INITIAL_VFS", 0x0C, 2, RO, "9.3.3.5", "InitialVFs"),
    _reg("TOTAL_VFS", 0x0E, 2, RO, "9.3.3.6", "TotalVFs"),
    _reg("NUM_VFS", 0x10, 2, RW, "9.3.3.7", "NumVFs, while VF_ENABLE is clear"),
    _reg("FUNCTION_DEPENDENCY", 0x12, 1, RO, "9.3.3.8", "Function Dependency Link"),
    _reg("FIRST_VF_OFFSET", 0x14, 2, RO, "9.3.3.9", "First VF Offset"),
    _reg("VF_STRIDE", 0x16, 2, RO, "9.3.3.10", "VF Stride"),
    _reg("VF_DEVICE_ID", 0x1A, 2, RO, "9.3.3.11", "VF Device ID"),
    _reg("SUPPORTED_PAGE_SIZES", 0x1C, 4, RO, "9.3.3.12", "bit n: 2 to the power of n + 12"),
    _reg("SYSTEM_PAGE_SIZE", 0x20, 4, RW, "9.3.3.13", "System Page Size", 0x1),
    _reg("VF_BAR", 0x24, 4, RW, "9.3.3.14", "VF Base Address Registers", count=BARS),
    _reg("MIGRATION_STATE", 0x3C, 4, RO, "9.3.3.15", "VF Migration State Array Offset"),
)  # fmt: skip

BAR_IO: Final = 0x1
BAR_64_BIT: Final = 0x4
BAR_PREFETCHABLE: Final = 0x8
BAR_FLAGS_MASK: Final = 0xF
"""§7.5.1.2.1: the low bits of a memory BAR."""
NEXT_SHIFT: Final = 20
"""Where an extended capability header has the next one's offset."""
EXTENDED_BEGIN: Final = 0x100

MSIX_ENTRY: Final = Record(
    "msix_entry", 16, "PCIe §7.7.2.5 to §7.7.2.8",
    Field("address_low", 0, 4), Field("address_high", 4, 4), Field("data", 8, 4), Field("control", 12, 4),
)  # fmt: skip
MSIX_MASKED: Final = 0x1
"""§7.7.2.8: bit 0 of the vector control."""
MSIX_ADDRESS_LOW_MASK: Final = 0xFFFF_FFFC
PBA_WORD_BYTES: Final = 8
