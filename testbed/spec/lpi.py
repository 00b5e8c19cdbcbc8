"""Locality-specific peripheral interrupts: their configuration and pending tables, and how they reach a host.

Reference: ARM IHI 0069 H.b §6.1 (LPIs), §6.1.1 (configuration table), §6.1.2 (pending table), §12.11
(GICR_PROPBASER). A host's processor has no interrupt pin here: a page of shared memory with one bit an LPI
and a bell stands for it. Not declared: cacheability and shareability, which our memory has no meaning for.
"""

from typing import Final

from testbed.spec.layout import Bits, Field, Record

LPI_FIRST: Final = 8192
"""§2.2: INTIDs from here on are LPIs."""
INTID_SPURIOUS: Final = 1023
INTID_NONE: Final = 1023
"""§5.3.17, §5.3.23: as a doorbell, "there is none"."""
ID_BITS_MIN: Final = 14
"""§12.11: fewer bits have no LPI."""

LPI_ENABLE: Final = Bits("Enable", 0)
LPI_PRIORITY: Final = Bits("Priority", 2, 6, "bits 7 to 2 of the priority; bits 1 and 0 are zero")
PENDING_RESERVED_BYTES: Final = LPI_FIRST // 8
"""§6.1.2: the first KiB of a pending table belongs to no LPI."""

HOST_LPIS: Final = 2048
"""Physical LPIs of a host: INTIDs 8192 to 10239."""
VLPIS: Final = 1024
"""Virtual LPIs of a guest (GICD_TYPER.num_LPIs = 9): INTIDs 8192 to 9215."""
HOST_LPI_WORDS: Final = HOST_LPIS // 64
VLPI_WORDS: Final = VLPIS // 64

LPI_PAGE: Final = Record(
    "lpi_page", 4096, "design: interrupts; one page a host processor",
    Field("rung", 0, 8), Field("armed", 8, 4), Field("sent", 16, 8),
    Field("raised", 64, 8, "enabled LPIs not yet taken, one bit an LPI", count=HOST_LPI_WORDS),
)  # fmt: skip


def config_offset(intid: int) -> int:
    """Return where the configuration byte of an LPI lies in its table (§6.1.1)."""
    return intid - LPI_FIRST


def config_bytes(id_bits: int) -> int:
    """Return the size of the configuration table of that many INTID bits."""
    return (1 << id_bits) - LPI_FIRST


def pending_bytes(id_bits: int) -> int:
    """Return the size of the pending table of that many INTID bits (§6.1.2)."""
    return (1 << id_bits) // 8
