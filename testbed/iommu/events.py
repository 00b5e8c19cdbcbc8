"""Event records: what an SMMU writes into its event queue about a transaction that it refused.

Reference: ARM IHI 0070 G.b §7.3. Not modelled: merging of records (permitted, never required), records of
features that are not advertised.
"""

from dataclasses import dataclass, replace

from testbed.spec import smmu_queues as q

_FETCHES = frozenset((q.F_STE_FETCH, q.F_CD_FETCH, q.F_WALK_EABT))
_TRANSLATION = frozenset((q.F_TRANSLATION, q.F_ADDR_SIZE, q.F_ACCESS, q.F_PERMISSION))
_INPUT_ADDRESS = _TRANSLATION | {q.F_WALK_EABT, q.F_TRANSL_FORBIDDEN, q.F_BAD_ATS_TREQ}
_ACCESS = _TRANSLATION | {q.F_WALK_EABT, q.F_UUT}


@dataclass(frozen=True, slots=True)
class Request:
    """One transaction as it reaches the SMMU."""

    stream: int
    address: int
    write: bool = False
    substream: int | None = None
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One record. Fields that its kind does not have are left out of the image."""

    code: int
    request: Request
    stage2: bool = False
    fault_class: int = q.CLASS_IN
    ipa: int = 0
    """Stage-2 faults: the address that stage 2 refused."""
    fetch: int = 0
    """`F_*_FETCH` and `F_WALK_EABT`: the physical address that could not be read."""
    substream: int | None = None
    """C_BAD_SUBSTREAMID: the CD that was meant, where the request named none."""
    stag: int | None = None
    """The transaction is stalled under this tag."""
    span: int = 0
    """F_BAD_ATS_TREQ: units asked for."""

    @property
    def name(self) -> str:
        """The standard's name of the record."""
        return q.EVENT_NAMES[self.code]

    def stalled(self, stag: int) -> "Event":
        """Return the same record for a transaction that waits for an answer."""
        return replace(self, stag=stag)

    def pack(self) -> bytes:
        """Return the record as it lies in the queue."""
        image = q.EVENT_CODE.put(self.code) | q.EVENT_STREAM.put(self.request.stream & 0xFFFF_FFFF)
        image |= self._substream()
        if self.code in _INPUT_ADDRESS:
            image |= q.EVENT_INPUT_ADDRESS.put(self.request.address & (1 << 64) - 1)
        if self.code in _ACCESS:
            image |= q.EVENT_RNW.put(not self.request.write) | q.EVENT_PNU.put(self.request.privileged)
        if self.code in _FETCHES:
            image |= q.EVENT_FETCH_ADDRESS.put(_bits(self.fetch, q.EVENT_FETCH_ADDRESS_SHIFT))
        if self.code in _TRANSLATION or self.code == q.F_WALK_EABT:
            image |= q.EVENT_S2.put(self.stage2) | q.EVENT_CLASS.put(self.fault_class)
        if self.code in _TRANSLATION:
            image |= self._translation()
        if self.code == q.F_TRANSL_FORBIDDEN:
            image |= q.EVENT_RNW.put(not self.request.write)
        if self.code == q.F_BAD_ATS_TREQ:
            image |= self._ats_request()
        return image.to_bytes(q.EVENT_BYTES, "little")

    def _substream(self) -> int:
        named = self.substream if self.substream is not None else self.request.substream
        if named is None:
            return 0
        valid = self.code != q.C_BAD_SUBSTREAMID and self.request.substream is not None
        return q.EVENT_SUBSTREAM.put(named & 0xF_FFFF) | q.EVENT_SSV.put(valid)

    def _translation(self) -> int:
        image = 0
        if self.stage2:
            image |= q.EVENT_IPA.put(_bits(self.ipa, q.EVENT_IPA_SHIFT))
        if self.stag is not None:
            image |= q.EVENT_STALL.put(1) | q.EVENT_STAG.put(self.stag)
        if self.code == q.F_PERMISSION and self.fault_class == q.CLASS_TTD:
            image |= q.EVENT_TTRNW.put(1)
        return image

    def _ats_request(self) -> int:
        image = q.EVENT_ATS_READ.put(1) | q.EVENT_ATS_WRITE.put(self.request.write)
        return image | q.EVENT_ATS_PRIVILEGED.put(self.request.privileged) | q.EVENT_SPAN.put(self.span & 0xF)


def _bits(address: int, shift: int) -> int:
    """Return address bits 55 to `shift`."""
    return (address & (1 << 56) - 1) >> shift


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transaction that may not pass, as a value: what to record and what becomes of it."""

    event: Event | None
    """None: it is terminated in silence."""
    stall: bool = False
    """It waits for software instead of being terminated."""
    translation_related: bool = False
    """One of the four faults of a page; an ATS request answers these without access instead of with an
    error.
    """
