"""What this SMMU advertises, and the ID registers that say so.

Reference: ARM IHI 0070 G.b §6.3.1 to §6.3.8. The same constants decide what a structure may configure, so a
feature that is not advertised cannot be used. The table for readers is in `testbed.iommu.smmu`.
"""

from dataclasses import dataclass

from testbed.spec import smmu as s


@dataclass(frozen=True, slots=True)
class Features:
    """Configurable capabilities; what is not here is fixed by the model."""

    stage1: bool = True
    stage2: bool = True
    ats: bool = True
    stall: bool = True
    """Both fault models; without it transactions are always terminated."""
    stream_bits: int = 16
    substream_bits: int = 16
    address_bits: int = 48
    """Output address size; the input address size is the same (IAS == OAS without AArch32)."""
    command_queue_bits: int = 16
    event_queue_bits: int = 15
    stalls_max: int = 64

    def __post_init__(self) -> None:
        assert self.stage1 or self.stage2
        assert self.address_bits in s.ADDRESS_SIZES
        assert self.stream_bits <= 32
        assert self.substream_bits <= 20


def id_registers(features: Features) -> dict[str, int]:
    """Return the values of the ID registers by name."""
    return {
        "IDR0": _idr0(features),
        "IDR1": s.IDR1_SIDSIZE.put(features.stream_bits)
        | s.IDR1_SSIDSIZE.put(features.substream_bits)
        | s.IDR1_CMDQS.put(features.command_queue_bits)
        | s.IDR1_EVENTQS.put(features.event_queue_bits),
        "IDR3": s.IDR3_HAD.put(1) | s.IDR3_RIL.put(1),
        "IDR5": s.IDR5_OAS.put(s.ADDRESS_SIZES.index(features.address_bits))
        | s.IDR5_GRAN4K.put(1)
        | s.IDR5_STALL_MAX.put(features.stalls_max if features.stall else 0),
        "AIDR": s.AIDR_V3_1,
    }


def _idr0(features: Features) -> int:
    model = s.STALL_MODEL_BOTH if features.stall else s.STALL_MODEL_TERMINATE
    return (
        s.IDR0_S1P.put(features.stage1)
        | s.IDR0_S2P.put(features.stage2)
        | s.IDR0_TTF.put(s.TTF_AARCH64)
        | s.IDR0_COHACC.put(1)
        | s.IDR0_ATS.put(features.ats)
        | s.IDR0_NS1ATS.put(features.ats)
        | s.IDR0_ASID16.put(features.stage1)
        | s.IDR0_VMID16.put(features.stage2)
        | s.IDR0_CD2L.put(features.stage1 and features.substream_bits > 0)
        | s.IDR0_TTENDIAN.put(s.TTENDIAN_LITTLE)
        | s.IDR0_STALL_MODEL.put(model)
        | s.IDR0_TERM_MODEL.put(1)
        | s.IDR0_ST_LEVEL.put(s.ST_LEVEL_TWO)
    )
