"""Where the 82576's functions have their capabilities and BARs, and what is in them.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), chapter 9. Not here:
MSI, Flash, I/O and expansion ROM BARs (all of which an EEPROM can switch off), vital product data, serial
number.
"""

from typing import Final

from testbed.spec import igb, igb_vf

PM: Final = 0x40
MSIX: Final = 0x70
EXPRESS: Final = 0xA0
AER: Final = 0x100
ARI: Final = 0x150
SRIOV: Final = 0x160

REGISTERS_BAR: Final = 0
MSIX_BAR: Final = 3
"""Two BARs: it is a 64-bit one."""
PBA_OFFSET: Final = 0x2000
FIRST_VF_OFFSET: Final = 128
VF_STRIDE: Final = 2
SUPPORTED_PAGE_SIZES: Final = 0x553

PF_VALUES: Final = {
    "VENDOR_ID": igb.VENDOR_ID, "DEVICE_ID": igb.DEVICE_ID, "REVISION_ID": igb.REVISION_ID,
    "CLASS_CODE": igb.CLASS_CODE, "SUBSYSTEM_VENDOR_ID": igb.VENDOR_ID, "SUBSYSTEM_ID": 0,
    "MSIX_CONTROL": igb.MSIX_VECTORS - 1, "MSIX_TABLE": MSIX_BAR, "MSIX_PBA": PBA_OFFSET | MSIX_BAR,
    "INITIAL_VFS": igb.VFS_MAX, "TOTAL_VFS": igb.VFS_MAX, "FIRST_VF_OFFSET": FIRST_VF_OFFSET,
    "VF_STRIDE": VF_STRIDE, "VF_DEVICE_ID": igb.VF_DEVICE_ID, "SUPPORTED_PAGE_SIZES": SUPPORTED_PAGE_SIZES,
}  # fmt: skip
"""Initial values of the physical function, by register."""
VF_VALUES: Final = {
    "VENDOR_ID": 0xFFFF, "DEVICE_ID": 0xFFFF, "REVISION_ID": igb.REVISION_ID, "CLASS_CODE": igb.CLASS_CODE,
    "SUBSYSTEM_VENDOR_ID": igb.VENDOR_ID, "SUBSYSTEM_ID": 0, "MSIX_CONTROL": igb.VF_VECTORS - 1,
    "MSIX_TABLE": MSIX_BAR, "MSIX_PBA": PBA_OFFSET | MSIX_BAR,
}  # fmt: skip

BAR_BYTES: Final = {REGISTERS_BAR: igb.BAR_BYTES, MSIX_BAR: igb.MSIX_BAR_BYTES}
VF_BAR_BYTES: Final = {REGISTERS_BAR: igb_vf.BAR_BYTES, MSIX_BAR: igb_vf.MSIX_BAR_BYTES}
