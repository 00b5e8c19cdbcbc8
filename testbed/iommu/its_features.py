"""What this ITS advertises. Reference: ARM IHI 0069 H.b §12.19.14 (GITS_TYPER)."""

from dataclasses import dataclass
from typing import Literal

from testbed.spec import its as s


@dataclass(frozen=True, slots=True)
class ItsFeatures:
    """Configurable capabilities; what is not here is fixed by the model."""

    processors: int = 1
    """Redistributors that a collection or a vPE can be mapped to."""
    virtual: bool = True
    """GICv4: commands and table of vPEs."""
    device_bits: int = 16
    event_bits: int = 16
    collection_bits: int = 16
    on_error: Literal["skip", "stall"] = "skip"
    """§5.3: a command in error is ignored, or the queue stalls at it until software retries."""


def typer(features: ItsFeatures) -> int:
    """Return the value of GITS_TYPER."""
    return (
        s.TYPER_PHYSICAL.put(1)
        | s.TYPER_VIRTUAL.put(features.virtual)
        | s.TYPER_ITT_ENTRY_SIZE.put(s.ITE_BYTES - 1)
        | s.TYPER_ID_BITS.put(features.event_bits - 1)
        | s.TYPER_DEVBITS.put(features.device_bits - 1)
        | s.TYPER_CIDBITS.put(features.collection_bits - 1)
        | s.TYPER_CIL.put(1)
        | s.TYPER_VMOVP.put(features.virtual)
    )


def table_registers(features: ItsFeatures) -> dict[int, int]:
    """Return the read-only fields of each GITS_BASER<n> that is there: type and size of an entry."""
    kinds = [(s.TYPE_DEVICES, s.DTE_BYTES), (s.TYPE_COLLECTIONS, s.CTE_BYTES)]
    if features.virtual:
        kinds.append((s.TYPE_VPES, s.VTE_BYTES))
    return {
        n: s.BASER_TYPE.put(kind) | s.BASER_ENTRY_SIZE.put(size_bytes - 1)
        for n, (kind, size_bytes) in enumerate(kinds)
    }
