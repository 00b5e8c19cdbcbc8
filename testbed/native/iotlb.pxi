"""The IOMMU's translation cache: `Iotlb`. Policy (what may be cached, what an invalidation means) is the caller's."""

cdef extern from "iotlb.h" nogil:
    ctypedef struct iotlb_t:
        uint64_t hits, misses
        const host_map_t* memory
    ctypedef struct iotlb_match_t:
        bint any_vmid, any_asid, stage1, stage2
        bint match_global "global"
        uint16_t vmid, asid
        uint64_t first, last
    ctypedef struct dma_request_t:
        pass
    ctypedef struct dma_piece_t:
        pass
    int64_t IOTLB_MISS
    uint32_t IOTLB_NONE
    uint32_t IOTLB_ANY_SUBSTREAM
    uint32_t DMA_REQUEST_NO_SUBSTREAM
    ctypedef struct iotlb_tables_t:
        walk_stage_t lower, upper, stage2
        bint valid, has_stage1, has_lower, has_upper, has_stage2
        uint8_t address_bits
    void iotlb_set_tables(iotlb_t*, uint32_t, const iotlb_tables_t*)
    int iotlb_init(iotlb_t*, uint32_t, uint32_t)
    void iotlb_free(iotlb_t*)
    uint32_t iotlb_find_context(const iotlb_t*, uint32_t, uint32_t)
    uint32_t iotlb_add_context(iotlb_t*, uint32_t, uint32_t, uint16_t, uint16_t, bint)
    uint32_t iotlb_drop_contexts(iotlb_t*, uint32_t, uint32_t, uint32_t)
    void iotlb_fill(iotlb_t*, uint32_t, uint64_t, uint64_t, uint32_t, uint32_t, bint, uint32_t)
    int64_t iotlb_lookup(iotlb_t*, uint32_t, uint64_t, uint32_t, uint64_t*)
    uint32_t iotlb_invalidate(iotlb_t*, const iotlb_match_t*)
    uint32_t iotlb_valid_entries(const iotlb_t*)
    uint32_t iotlb_translate(iotlb_t*, const dma_request_t*, uint32_t, uint32_t, dma_piece_t*, uint32_t, uint32_t*, uint32_t*)


cdef uint32_t _substream_key(substream) except? 0:
    if substream is None:
        return DMA_REQUEST_NO_SUBSTREAM
    if not 0 <= substream < (1 << 20):
        raise ValueError(f"a SubstreamID has 20 bits, not {substream:#x}")
    return substream


cdef class Iotlb:
    """Cached configurations (contexts) and the translations that belong to each.

    `entries` and `contexts` are powers of two. A context is a number that `add_context` returns; it stays good until its stream is dropped.
    """

    cdef iotlb_t tlb
    cdef HostMap host_map
    cdef readonly int entries
    cdef readonly int contexts

    def __cinit__(self, int entries=4096, int contexts=1024):
        if entries < 4 or entries & (entries - 1) or contexts < 1 or contexts & (contexts - 1):
            raise ValueError(f"sizes must be powers of two, not {entries} and {contexts}")
        if iotlb_init(&self.tlb, entries, contexts):
            raise MemoryError
        self.entries, self.contexts = entries, contexts

    def __dealloc__(self):
        iotlb_free(&self.tlb)

    @property
    def hits(self) -> int:
        return self.tlb.hits

    @property
    def misses(self) -> int:
        return self.tlb.misses

    def __len__(self) -> int:
        return iotlb_valid_entries(&self.tlb)

    def find_context(self, uint32_t stream, substream=None):
        """Return the context of a stream (and substream), or None."""
        cdef uint32_t at = iotlb_find_context(&self.tlb, stream, _substream_key(substream))
        return None if at == IOTLB_NONE else at

    def add_context(self, uint32_t stream, substream, uint16_t vmid, uint16_t asid, bint bypass=False):
        """Cache a configuration, replacing one of the same key (its translations go); None where every context is taken."""
        cdef uint32_t at = iotlb_add_context(&self.tlb, stream, _substream_key(substream), vmid, asid, bypass)
        return None if at == IOTLB_NONE else at

    def walk_in(self, HostMap host_map not None):
        """Have misses of contexts whose tables are known walked natively, in this memory."""
        self.host_map, self.tlb.memory = host_map, &host_map.map

    def set_tables(self, int context, bint has_stage1, lower, upper, stage2, int address_bits):
        """Say what a context's addresses go through: stages as `walk_nested` takes them, the two halves of stage 1's address space apart;
        None where there is none.
        """
        cdef iotlb_tables_t tables
        if not 0 <= context < self.contexts or not 0 < address_bits < 64 or not (has_stage1 or stage2 is not None):
            raise ValueError(f"there is no context {context}, or it translates nothing")
        tables.valid, tables.has_stage1, tables.address_bits = True, has_stage1, address_bits
        tables.has_lower, tables.has_upper, tables.has_stage2 = lower is not None, upper is not None, stage2 is not None
        if lower is not None:
            _stage_from(tuple(lower), 1, &tables.lower)
        if upper is not None:
            _stage_from(tuple(upper), 1, &tables.upper)
        if stage2 is not None:
            _stage_from(tuple(stage2), 2, &tables.stage2)
        iotlb_set_tables(&self.tlb, context, &tables)

    def drop_streams(self, uint32_t first, uint32_t last):
        """Forget every configuration of streams `first` to `last`, inclusive, with its translations; return how many."""
        return iotlb_drop_contexts(&self.tlb, first, last, IOTLB_ANY_SUBSTREAM)

    def drop_context(self, uint32_t stream, substream):
        """Forget the configuration of one stream and substream (None: requests without one); return how many."""
        return iotlb_drop_contexts(&self.tlb, stream, stream, _substream_key(substream))

    def fill(self, int context, uint64_t address, uint64_t output, uint64_t block_bytes, uint32_t permissions, bint is_global,
             uint64_t stage1_bytes):
        """Cache a translation of `block_bytes` (4 KiB, 2 MiB or 1 GiB) around `address`; `stage1_bytes` is 0 for stage 2 alone."""
        if not 0 <= context < self.contexts:
            raise ValueError(f"there is no context {context}")
        cdef uint32_t shift = block_bytes.bit_length() - 1
        cdef uint32_t stage1_shift = stage1_bytes.bit_length() - 1 if stage1_bytes else 0
        iotlb_fill(&self.tlb, context, address, output, shift, permissions, is_global, stage1_shift)

    def lookup(self, int context, uint64_t address, uint32_t needed):
        """Return the output address, or None where it is not cached or does not grant what is needed."""
        cdef uint64_t left = 0
        if not 0 <= context < self.contexts:
            raise ValueError(f"there is no context {context}")
        cdef int64_t output = iotlb_lookup(&self.tlb, context, address, needed, &left)
        return None if output == IOTLB_MISS else output

    def translate(self, Pinned requests not None, uint32_t first, uint32_t count, Pinned pieces not None, uint32_t used=0):
        """Translate requests `first` to `count` - 1 (dma_request records) in order until one misses.

        Their pieces (dma_piece records) are appended to the `used` that `pieces` holds already. Returns (requests translated, pieces held,
        whether `pieces` is full).
        """
        cdef uint32_t done, full = 0, capacity = pieces.size_bytes // sizeof(dma_piece_t)
        if <uint64_t>count * sizeof(dma_request_t) > <uint64_t>requests.size_bytes or first > count or used > capacity:
            raise ValueError(f"{count} requests do not fit {requests.size_bytes} bytes, or {used} pieces {pieces.size_bytes}")
        with nogil:
            done = iotlb_translate(&self.tlb, <const dma_request_t*>requests.data, first, count, <dma_piece_t*>pieces.data,
                                   capacity, &used, &full)
        return done, used, bool(full)

    def invalidate(self, vmid, asid, bint match_global, uint64_t first, uint64_t last, bint stage1, bint stage2):
        """Remove entries; return how many.

        `vmid` and `asid` None match every one; with an ASID, global entries match if `match_global`. `first` to `last` are 49-bit input
        addresses, inclusive; an entry that is a fragment of a larger leaf of stage 1 goes with any address of that leaf. `stage1` and
        `stage2` choose entries with a stage-1 part and entries of stage 2 alone.
        """
        cdef iotlb_match_t match
        match.any_vmid, match.any_asid, match.match_global = vmid is None, asid is None, match_global
        match.vmid, match.asid = vmid or 0, asid or 0
        match.first, match.last, match.stage1, match.stage2 = first, last, stage1, stage2
        return iotlb_invalidate(&self.tlb, &match)
