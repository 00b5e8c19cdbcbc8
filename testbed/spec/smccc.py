"""Hypercalls: function identifiers and results of the SMC Calling Convention.

Reference: Arm SMCCC (DEN0028, version 1.1), §2.5 (function identifiers), §5.2 (return codes), §6.1 (general
service queries), §7 (Arm architecture calls). Not here: PSCI, calls that pass more than four registers.
"""

from typing import Final

from testbed.spec.layout import Bits

FUNCTION_FAST: Final = Bits("FAST", 31, 1, "atomic call")
FUNCTION_SMC64: Final = Bits("SMC64", 30, 1)
FUNCTION_OWNER: Final = Bits("OWNER", 24, 6)
FUNCTION_NUMBER: Final = Bits("NUMBER", 0, 16)
OWNER_ARCHITECTURE: Final = 0
OWNER_VENDOR_HYPERVISOR: Final = 6

VERSION: Final = 0x8000_0000
"""SMCCC_VERSION, §7.2."""
ARCH_FEATURES: Final = 0x8000_0001
"""SMCCC_ARCH_FEATURES, §7.3: is a call of the architecture's range there?"""
HYPERVISOR_UID: Final = 0x8600_FF01
"""Call UID query of the vendor's hypervisor service, §6.1."""
HYPERVISOR_REVISION: Final = 0x8600_FF03
"""Revision query, §6.1: major and minor in two registers."""

VERSION_1_1: Final = 0x0001_0001
SUCCESS: Final = 0
NOT_SUPPORTED: Final = 0xFFFF_FFFF_FFFF_FFFF
"""-1."""
UID: Final = (0x5A1C_7B02, 0x4C3E_91D6, 0x7662_80A9, 0x2D64_6562)
"""virtbed's own service, as W0 to W3."""
REVISION: Final = (1, 0)
