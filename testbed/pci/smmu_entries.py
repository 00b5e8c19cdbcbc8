"""Images of what software writes for an SMMUv3: stream table entries, context descriptors, commands; and
event records as software reads them.

Reference: ARM IHI 0070 G.b §5.2 (STE), §5.4 (CD), chapter 4 (commands), §7.3 (events). Every table has 4 KiB
granule and 48-bit input addresses. Not modelled: attributes and their overrides.
"""

from dataclasses import dataclass
from typing import Final

from testbed.address import PAGE_SHIFT, PAGE_SIZE_BYTES
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits

INPUT_BITS: Final = 48
_T0SZ: Final = 64 - INPUT_BITS
_FROM_LEVEL_0: Final = next(code for code, level in s.S2SL0_LEVELS.items() if level == 0)
_ADDRESSES_48: Final = s.ADDRESS_SIZES.index(INPUT_BITS)


def image(*fields: tuple[Bits, int]) -> int:
    """Return a structure's image with these fields set."""
    word = 0
    for field, value in fields:
        word = field.put(value, word)
    return word


# Stream table entries


def _stage2(vmid: int, root: int) -> int:
    """Return the fields that say how stage 2 translates; faults of it are recorded, none stalls."""
    return image(
        (s.STE_S2VMID, vmid),
        (s.STE_S2T0SZ, _T0SZ),
        (s.STE_S2SL0, _FROM_LEVEL_0),
        (s.STE_S2PS, _ADDRESSES_48),
        (s.STE_S2AA64, 1),
        (s.STE_S2R, 1),
        (s.STE_S2TTB, root >> s.STE_S2TTB_SHIFT),
    )


def abort_entry() -> int:
    """Return an STE whose stream's every transaction is terminated without a record."""
    return image((s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_ABORT))


def bypass_entry() -> int:
    """Return an STE whose stream's addresses are host physical ones, and nothing is stopped."""
    return image((s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_BYPASS))


def stage2_entry(vmid: int, root: int, ats: bool = False) -> int:
    """Return an STE that translates by stage 2 alone: the guest's physical addresses."""
    eats = s.EATS_FULL if ats else s.EATS_NONE
    return image((s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_STAGE2), (s.STE_EATS, eats)) | _stage2(vmid, root)


def stage1_entry(
    contexts: int, context_bits: int, default_substream: int, s1fmt: int = s.S1FMT_LINEAR
) -> int:
    """Return an STE that translates by stage 1 alone, its CD table of 2 to the power of `context_bits` at
    `contexts`.
    """
    fields = image((s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_STAGE1), (s.STE_S1FMT, s1fmt))
    fields |= image((s.STE_S1CDMAX, context_bits), (s.STE_S1DSS, default_substream))
    return fields | contexts & s.STE_S1CONTEXTPTR.mask


_OF_STAGE1: Final = (s.STE_S1FMT, s.STE_S1CONTEXTPTR, s.STE_S1CDMAX, s.STE_S1DSS)
"""What a nested STE takes over from the guest's own."""


def nested_entry(guest_entry: int, vmid: int, root: int, ats: bool = False) -> int:
    """Return an STE that translates by the stage 1 of a guest's own STE and then by stage 2.

    Only the guest's choice of stage-1 tables is taken over. Its faults are never stalled: the device is PCIe.
    """
    eats = s.EATS_FULL if ats else s.EATS_NONE
    taken = sum(guest_entry & field.mask for field in _OF_STAGE1)
    fields = image((s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_NESTED), (s.STE_EATS, eats))
    return fields | taken | _stage2(vmid, root)


def context_descriptor(root: int, asid: int) -> int:
    """Return a CD: TTB0 translates, TTB1 does not, faults are recorded and aborted."""
    return image(
        (s.CD_V, 1),
        (s.CD_T0SZ, _T0SZ),
        (s.CD_TG0, s.TG0_4K),
        (s.CD_EPD1, 1),
        (s.CD_IPS, _ADDRESSES_48),
        (s.CD_AA64, 1),
        (s.CD_R, 1),
        (s.CD_A, 1),
        (s.CD_ASID, asid),
        (s.CD_TTB0, root >> s.CD_TTB_SHIFT),
    )


# Commands


def command(opcode: int, *fields: tuple[Bits, int]) -> int:
    """Return a command's image."""
    return q.COMMAND_OPCODE.put(opcode, image(*fields))


def invalidate_entry(stream: int) -> int:
    """Return CMD_CFGI_STE."""
    return command(q.OP_CFGI_STE, (q.COMMAND_STREAM, stream), (q.CFGI_LEAF, 1))


def invalidate_every_entry() -> int:
    """Return CMD_CFGI_ALL."""
    return command(q.OP_CFGI_STE_RANGE, (q.CFGI_RANGE, q.CFGI_RANGE_ALL))


def invalidate_context(stream: int, substream: int) -> int:
    """Return CMD_CFGI_CD."""
    return command(
        q.OP_CFGI_CD, (q.COMMAND_STREAM, stream), (q.COMMAND_SUBSTREAM, substream), (q.CFGI_LEAF, 1)
    )


def invalidate_by_address(opcode: int, address: int, vmid: int = 0, asid: int = 0) -> int:
    """Return CMD_TLBI_NH_VA or CMD_TLBI_S2_IPA for one page, or for the block that it lies in."""
    return command(opcode, (q.TLBI_VMID, vmid), (q.TLBI_ASID, asid), (q.TLBI_ADDRESS, address >> PAGE_SHIFT))


def invalidate_device(
    stream: int, address: int = 0, size_bytes: int = 0, substream: int | None = None
) -> int:
    """Return CMD_ATC_INV for a naturally aligned range around an address; size 0: everything."""
    pages = size_bytes // PAGE_SIZE_BYTES
    size = pages.bit_length() - 1 if pages else q.ATC_SIZE_ALL
    return command(
        q.OP_ATC_INV,
        (q.COMMAND_STREAM, stream),
        (q.COMMAND_SSV, substream is not None),
        (q.COMMAND_SUBSTREAM, substream or 0),
        (q.ATC_SIZE, size),
        (q.ATC_ADDRESS, address >> PAGE_SHIFT),
    )


# Events


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One record of the event queue."""

    code: int
    stream: int
    substream: int | None
    address: int
    """InputAddr, where its kind has one."""
    write: bool
    stage2: bool
    ipa: int
    image: int
    """The whole record."""

    @property
    def name(self) -> str:
        """The standard's name of the record, or its number."""
        return q.EVENT_NAMES.get(self.code, f"event {self.code:#x}")


def decode_event(record: bytes) -> EventRecord:
    """Return what a record of 32 bytes says."""
    word = int.from_bytes(record, "little")
    valid = q.EVENT_SSV.get(word)
    return EventRecord(
        code=q.EVENT_CODE.get(word),
        stream=q.EVENT_STREAM.get(word),
        substream=q.EVENT_SUBSTREAM.get(word) if valid else None,
        address=q.EVENT_INPUT_ADDRESS.get(word),
        write=not q.EVENT_RNW.get(word),
        stage2=bool(q.EVENT_S2.get(word)),
        ipa=q.EVENT_IPA.get(word) << q.EVENT_IPA_SHIFT,
        image=word,
    )
