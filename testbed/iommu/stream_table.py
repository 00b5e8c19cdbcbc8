"""From a transaction's StreamID and SubstreamID to what it is to be translated by: STE, then CD.

Reference: ARM IHI 0070 G.b §3.3, §5.1 to §5.4, the order of checks §7.3.22. Every structure is copied once
and judged by the copy, so that software that changes it meanwhile cannot be half believed. Not modelled:
attributes and their overrides, Secure and Realm streams, EL2 stream worlds (IDR0.Hyp is 0), VMS, CD.PAN and
STE.S2PTW, caching of level-1 descriptors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testbed.errors import MemoryFault
from testbed.iommu.events import Event, Refusal, Request
from testbed.iommu.features import Features
from testbed.memory.walk import Fault, FaultKind, Permission, Stage, Translation, start_level
from testbed.spec import page_table as pt
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q

Walk = Callable[[Stage | None, Stage | None, int, int], Translation | Fault]
"""(stage 1, stage 2, address, needed) -> answer; either stage may be None, not both."""


class TableMemory(Protocol):
    """What holds the structures, by physical address."""

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return bytes; MemoryFault where there is no memory."""
        ...


@dataclass(frozen=True, slots=True)
class StreamTable:
    """SMMU_STRTAB_BASE and SMMU_STRTAB_BASE_CFG as the lookup uses them."""

    base: int
    log2size: int
    split: int
    two_level: bool


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """A valid STE."""

    config: int
    s1fmt: int
    context_pointer: int
    cd_bits: int
    """S1CDMax, 0 where there are no substreams."""
    default_substream: int
    """S1DSS."""
    stall_disabled: bool
    """S1STALLD."""
    eats: int
    vmid: int
    stage2: Stage | None
    s2_record: bool
    s2_stall: bool


@dataclass(frozen=True, slots=True)
class Context:
    """A valid CD."""

    lower: Stage | None
    """TTB0; None where its walks are disabled (EPD0)."""
    upper: Stage | None
    top_byte_ignored: tuple[bool, bool]
    """TBI0, TBI1."""
    asid: int
    record: bool
    stall: bool


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a stream (and substream) comes to: what a configuration cache holds."""

    entry: StreamEntry
    context: Context | None
    """None: stage 1 is bypassed."""

    @property
    def aborts(self) -> bool:
        """Every transaction is terminated in silence."""
        return not self.entry.config & s.CONFIG_PASSES

    @property
    def bypasses(self) -> bool:
        """Output is input."""
        return not self.aborts and self.context is None and self.entry.stage2 is None

    @property
    def asid(self) -> int:
        """What entries of the translation cache are tagged with."""
        return self.context.asid if self.context else 0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds configurations in memory."""

    memory: TableMemory
    walk: Walk
    features: Features

    def entry(self, table: StreamTable, request: Request) -> StreamEntry | Refusal:
        """Return the STE of a transaction's stream, or why it is refused."""
        image = self.image(table, request)
        if isinstance(image, Refusal):
            return image
        return decode_ste(image, self.features) or Refusal(Event(q.C_BAD_STE, request))

    def configuration(self, entry: StreamEntry, request: Request) -> Configuration | Refusal:
        """Return what a transaction is translated by, given its stream's STE, or why it is refused."""
        if not entry.config & s.CONFIG_PASSES:
            return Configuration(entry, None)
        index = self._cd_index(entry, request)
        if index is None or isinstance(index, Refusal):
            return index or Configuration(entry, None)
        return self._with_context(entry, index, request)

    def image(self, table: StreamTable, request: Request) -> int | Refusal:
        """Return the image of the STE of a transaction's stream, or why there is none (§3.3.1)."""
        stream = request.stream
        if stream >> min(table.log2size, self.features.stream_bits):
            return Refusal(Event(q.C_BAD_STREAMID, request))
        if not table.two_level:
            return self._fetch_ste(table.base & -(s.STE_BYTES << table.log2size), stream, request)
        level1_bits = max(table.log2size - table.split, 0)
        level1 = table.base & -max(s.L1STD_BYTES << level1_bits, 1 << s.STRTAB_ADDR.lsb)
        at = level1 + (stream >> table.split) * s.L1STD_BYTES
        descriptor = self._read(at, s.L1STD_BYTES)
        if descriptor is None:
            return Refusal(Event(q.F_STE_FETCH, request, fetch=at))
        span = s.L1STD_SPAN.get(descriptor)
        index = stream % (1 << table.split)
        if not 0 < span <= min(s.L1STD_SPAN_MAX, table.split + 1) or index >> (span - 1):
            return Refusal(Event(q.C_BAD_STREAMID, request))
        level2 = (descriptor & s.L1STD_L2PTR.mask) & -(s.STE_BYTES << (span - 1))
        return self._fetch_ste(level2, index, request)

    def _fetch_ste(self, base: int, index: int, request: Request) -> int | Refusal:
        at = base + index * s.STE_BYTES
        image = self._read(at, s.STE_BYTES)
        return Refusal(Event(q.F_STE_FETCH, request, fetch=at)) if image is None else image

    def _cd_index(self, entry: StreamEntry, request: Request) -> int | Refusal | None:
        """Return the CD to use, None where stage 1 is bypassed (§5.2 S1DSS, §7.3.7, §7.3.9)."""
        substream = request.substream
        if not entry.config & s.CONFIG_HAS_STAGE1:
            return None if substream is None else Refusal(Event(q.C_BAD_SUBSTREAMID, request))
        if substream is not None:
            if not entry.cd_bits or substream >> entry.cd_bits:
                return Refusal(Event(q.C_BAD_SUBSTREAMID, request))
            reserved = substream == 0 and entry.default_substream == s.S1DSS_SUBSTREAM0
            return Refusal(Event(q.F_STREAM_DISABLED, request)) if reserved else substream
        if not entry.cd_bits or entry.default_substream == s.S1DSS_SUBSTREAM0:
            return 0
        bypassed = entry.default_substream == s.S1DSS_BYPASS
        return None if bypassed else Refusal(Event(q.F_STREAM_DISABLED, request))

    def _with_context(self, entry: StreamEntry, index: int, request: Request) -> Configuration | Refusal:
        at = self._cd_address(entry, index, request)
        if isinstance(at, Refusal):
            return at
        image = self._fetch_structure(entry, at, s.CD_BYTES, request)
        if isinstance(image, Refusal):
            return image
        context = decode_cd(image, entry, self.features)
        return Refusal(Event(q.C_BAD_CD, request)) if context is None else Configuration(entry, context)

    def _cd_address(self, entry: StreamEntry, index: int, request: Request) -> int | Refusal:
        """Return the address of a CD, an intermediate physical one where stage 2 translates."""
        leaf_bits = s.S1FMT_LEAF_BITS.get(entry.s1fmt)
        if not entry.cd_bits or leaf_bits is None:
            return (entry.context_pointer & -(s.CD_BYTES << entry.cd_bits)) + index * s.CD_BYTES
        level1_bytes = s.L1CD_BYTES << max(entry.cd_bits - leaf_bits, 0)
        level1 = entry.context_pointer & -max(level1_bytes, s.CD_BYTES)
        at = level1 + (index >> leaf_bits) * s.L1CD_BYTES
        descriptor = self._fetch_structure(entry, at, s.L1CD_BYTES, request)
        if isinstance(descriptor, Refusal):
            return descriptor
        leaf = descriptor & s.L1CD_L2PTR.mask & -(s.CD_BYTES << leaf_bits)
        if not s.L1CD_V.get(descriptor) or leaf >> self.features.address_bits:
            return Refusal(Event(q.C_BAD_SUBSTREAMID, request, substream=index))
        return leaf + index % (1 << leaf_bits) * s.CD_BYTES

    def _fetch_structure(self, entry: StreamEntry, at: int, length: int, request: Request) -> int | Refusal:
        """Read an L1CD or CD, through stage 2 where it translates (faults of class CD)."""
        if entry.stage2 is not None:
            answer = self.walk(None, entry.stage2, at, Permission.READ)
            if isinstance(answer, Fault):
                return refusal_of(answer, entry, None, request, q.CLASS_CD)
            at = answer.output
        image = self._read(at, length)
        return Refusal(Event(q.F_CD_FETCH, request, fetch=at)) if image is None else image

    def _read(self, address: int, length: int) -> int | None:
        try:
            return int.from_bytes(self.memory.read(address, length), "little")
        except MemoryFault:
            return None


_CODES = {
    FaultKind.TRANSLATION: q.F_TRANSLATION,
    FaultKind.ADDRESS_SIZE: q.F_ADDR_SIZE,
    FaultKind.ACCESS_FLAG: q.F_ACCESS,
    FaultKind.PERMISSION: q.F_PERMISSION,
    FaultKind.WALK_ABORT: q.F_WALK_EABT,
}


def refusal_of(
    fault: Fault, entry: StreamEntry, context: Context | None, request: Request, fault_class: int = q.CLASS_IN
) -> Refusal:
    """Return what a fault of a walk means for the transaction (§5.5: A, R and S apply to four kinds only)."""
    stage2 = fault.stage == 2
    if fault.on_stage1_walk or (not stage2 and fault.kind is FaultKind.WALK_ABORT):
        fault_class = q.CLASS_TTD
    code = _CODES[fault.kind]
    event = Event(code, request, stage2, fault_class, fault.ipa, fault.fetch)
    if code == q.F_WALK_EABT:
        return Refusal(event)
    stall = entry.s2_stall if stage2 else context is not None and context.stall
    record = entry.s2_record if stage2 else context is None or context.record
    return Refusal(event if stall or record else None, stall, translation_related=True)


def decode_ste(image: int, features: Features) -> StreamEntry | None:
    """Return the STE that `image` holds, None where it is invalid or ILLEGAL (§5.2.2)."""
    config = s.STE_CONFIG.get(image)
    if not s.STE_V.get(image):
        return None
    passes, stage1 = config & s.CONFIG_PASSES, config & s.CONFIG_HAS_STAGE1
    stage2 = bool(passes and config & s.CONFIG_HAS_STAGE2)
    if passes and ((stage1 and not features.stage1) or (stage2 and not features.stage2)):
        return None
    if passes and (_ats_illegal(image, config, features) or (stage1 and _stage1_illegal(image, features))):
        return None
    tables = _stage2_tables(image, features) if stage2 else None
    if stage2 and tables is None:
        return None
    return StreamEntry(
        config=config,
        s1fmt=s.STE_S1FMT.get(image),
        context_pointer=image & s.STE_S1CONTEXTPTR.mask,
        cd_bits=s.STE_S1CDMAX.get(image) if features.substream_bits else 0,
        default_substream=s.STE_S1DSS.get(image),
        stall_disabled=bool(s.STE_S1STALLD.get(image)),
        eats=s.STE_EATS.get(image) if features.ats and config != s.CONFIG_BYPASS else s.EATS_NONE,
        vmid=s.STE_S2VMID.get(image) if features.stage2 else 0,
        stage2=tables,
        s2_record=bool(s.STE_S2R.get(image)),
        s2_stall=bool(s.STE_S2S.get(image)),
    )


def _ats_illegal(image: int, config: int, features: Features) -> bool:
    """IDR0.NS1ATS is 1, so split-stage ATS is ILLEGAL; full ATS cannot go with stalls of stage 2."""
    if not features.ats or config == s.CONFIG_BYPASS:
        return False
    eats = s.STE_EATS.get(image)
    stalls = config & s.CONFIG_HAS_STAGE2 and s.STE_S2S.get(image)
    return eats == s.EATS_SPLIT or bool(eats == s.EATS_FULL and stalls)


def _stage1_illegal(image: int, features: Features) -> bool:
    if s.STE_S1STALLD.get(image) and not features.stall:
        return True
    if features.substream_bits and s.STE_S1CDMAX.get(image) > features.substream_bits:
        return True
    return bool((image & s.STE_S1CONTEXTPTR.mask) >> features.address_bits)


def _stage2_tables(image: int, features: Features) -> Stage | None:
    """Return what stage 2 walks, None where a field is ILLEGAL."""
    level = s.S2SL0_LEVELS.get(s.STE_S2SL0.get(image))
    t0sz = s.STE_S2T0SZ.get(image)
    stalls_illegally = s.STE_S2S.get(image) and not features.stall
    flags = s.STE_S2ENDI.get(image) or s.STE_S2HA.get(image) or s.STE_S2HD.get(image)
    if not s.STE_S2AA64.get(image) or s.STE_S2TG.get(image) != s.TG0_4K or flags or stalls_illegally:
        return None
    if level is None or not _t0sz_legal(t0sz, features):
        return None
    # DDI 0487 D8.2: a first level resolves at least one bit and at most 16 concatenated tables
    resolved = 64 - t0sz - pt.LEVEL_SHIFTS[level]
    if not 0 < resolved <= pt.INDEX_BITS + pt.CONCATENATED_TABLES_MAX.bit_length() - 1:
        return None
    output_bits = _output_bits(s.STE_S2PS.get(image), features)
    root = s.STE_S2TTB.get(image) << s.STE_S2TTB_SHIFT
    if root >> output_bits:
        return None
    return Stage(root, 64 - t0sz, level, output_bits, not s.STE_S2AFFD.get(image))


def _t0sz_legal(t0sz: int, features: Features) -> bool:
    return max(s.T0SZ_MIN, 64 - features.address_bits) <= t0sz <= s.T0SZ_MAX


def _output_bits(encoded: int, features: Features) -> int:
    """Return an address size, capped to what is implemented."""
    size = s.ADDRESS_SIZES[min(encoded, len(s.ADDRESS_SIZES) - 1)]
    return min(size, features.address_bits)


def decode_cd(image: int, entry: StreamEntry, features: Features) -> Context | None:
    """Return the CD that `image` holds, None where it is invalid or ILLEGAL (§5.4.2)."""
    stall = bool(s.CD_S.get(image))
    if not s.CD_V.get(image) or not s.CD_AA64.get(image) or s.CD_HA.get(image) or s.CD_HD.get(image):
        return None
    # IDR0.TERM_MODEL is 1: a terminated transaction is always aborted
    if not s.CD_A.get(image) or (stall and (entry.stall_disabled or not features.stall)):
        return None
    lower = upper = None
    if not s.CD_EPD0.get(image):
        legal = s.CD_TG0.get(image) == s.TG0_4K
        hierarchical = not s.CD_HAD0.get(image)
        lower = _stage1_tables(image, s.CD_TTB0.get(image), s.CD_T0SZ.get(image), hierarchical, features)
        if lower is None or not legal:
            return None
    if not s.CD_EPD1.get(image):
        legal = s.CD_TG1.get(image) == s.TG1_4K
        hierarchical = not s.CD_HAD1.get(image)
        upper = _stage1_tables(image, s.CD_TTB1.get(image), s.CD_T1SZ.get(image), hierarchical, features)
        if upper is None or not legal:
            return None
    ignored = bool(s.CD_TBI0.get(image)), bool(s.CD_TBI1.get(image))
    return Context(lower, upper, ignored, s.CD_ASID.get(image), bool(s.CD_R.get(image)), stall)


def _stage1_tables(image: int, ttb: int, tsz: int, hierarchical: bool, features: Features) -> Stage | None:
    output_bits = _output_bits(s.CD_IPS.get(image), features)
    root = ttb << s.CD_TTB_SHIFT
    if s.CD_ENDI.get(image) or not s.T0SZ_MIN <= tsz <= s.T0SZ_MAX or root >> output_bits:
        return None
    bits = 64 - tsz
    return Stage(root, bits, start_level(bits), output_bits, not s.CD_AFFD.get(image), hierarchical)
