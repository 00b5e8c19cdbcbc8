"""DMA rings: `DmaRequester` is a device function's side, `DmaServer` the side that translates and copies. See dma_ring.h, dma_serve.h."""

cdef extern from "dma_ring.h" nogil:
    ctypedef struct dma_ring_head_t:
        uint32_t posted, completed
    ctypedef struct dma_requester_t:
        dma_ring_head_t* head
        dma_request_t* slots
        uint32_t mask, stream, next, completed, submitted
    uint32_t DMA_REQUEST_LENGTH_MAX
    uint32_t DMA_REQUEST_PIECES_MAX
    uint32_t DMA_REQUEST_BURST_MAX
    uint32_t dma_room(const dma_requester_t*)
    bint dma_post_flagged(dma_requester_t*, uint16_t, uint16_t, uint64_t, uint32_t, uint32_t, uint32_t)
    bint dma_submit(dma_requester_t*)
    uint32_t dma_completed(dma_requester_t*)
    uint32_t dma_status(const dma_requester_t*, uint32_t)

cdef extern from "dma_serve.h" nogil:
    ctypedef struct dma_row "dma_request_t":
        uint64_t iova
        uint32_t length, stream, substream, buffer, status
        uint16_t kind, flags
    ctypedef struct dma_part "dma_piece_t":
        uint64_t hpa
        uint32_t length, request
    ctypedef struct dma_server_t:
        dma_ring_head_t* head
        dma_request_t* slots
        uint32_t mask, stream
        uint8_t* buffer
        uint64_t buffer_size
        const host_map_t* memory
        iotlb_t* tlb
        uint32_t served
        bint broken
        dma_row current
        uint64_t reads, writes, bytes_read, bytes_written
        uint64_t translater
        its_cache_t* its
        its_entry_t* told
        int outcome
        uint64_t messages
    int DMA_SERVE_IDLE, DMA_SERVE_LIMIT, DMA_SERVE_ATTENTION, DMA_SERVE_BROKEN, DMA_SERVE_TELL
    int dma_serve(dma_server_t*, uint32_t, bint, uint32_t*)
    bint dma_move(dma_server_t*, const dma_part*, uint32_t)
    void dma_finish(dma_server_t*, uint32_t)
    void dma_answer(dma_server_t*, uint64_t, uint32_t, uint16_t)


def _dma_constants():
    return DMA_SERVE_IDLE, DMA_SERVE_LIMIT, DMA_SERVE_ATTENTION, DMA_SERVE_BROKEN, DMA_SERVE_TELL


SERVE_IDLE, SERVE_LIMIT, SERVE_ATTENTION, SERVE_BROKEN, SERVE_TELL = _dma_constants()


cdef uint8_t* _ring_at(Pinned page, Py_ssize_t offset, uint32_t slots) except NULL:
    if slots < 2 or slots & (slots - 1):
        raise ValueError(f"a DMA ring has a power of two of slots, at least 2, not {slots}")
    if (<uint64_t>page.data + offset) % 64:
        raise ValueError(f"a DMA ring begins at a cache line, not at {offset:#x}")
    return _at(page, offset, sizeof(dma_ring_head_t) + <Py_ssize_t>slots * sizeof(dma_row))


cdef bint _completions_ready(void* what) noexcept nogil:
    cdef dma_requester_t* r = <dma_requester_t*>what
    return load_acquire_u32(&r.head.completed) != r.completed

cdef bint _completions_arm(void* what) noexcept nogil:
    full_fence()
    return _completions_ready(what)

cdef bint _requests_ready(void* what) noexcept nogil:
    cdef dma_server_t* s = <dma_server_t*>what
    return not s.broken and load_acquire_u32(&s.head.posted) != s.served

cdef bint _requests_arm(void* what) noexcept nogil:
    full_fence()
    return _requests_ready(what)


cdef class DmaRequester(Watched):
    """A device function's side of its DMA ring; ready while there are completions that it has not looked at."""

    cdef dma_requester_t ring
    cdef Pinned page

    def __init__(self, Pinned page not None, Py_ssize_t offset, uint32_t slots, uint32_t stream):
        cdef uint8_t* at = _ring_at(page, offset, slots)
        self.page = page
        self.ring.head = <dma_ring_head_t*>at
        self.ring.slots = <dma_request_t*>(at + sizeof(dma_ring_head_t))
        self.ring.mask, self.ring.stream = slots - 1, stream
        self.ring.next = self.ring.submitted = load_acquire_u32(&self.ring.head.posted)
        self.ring.completed = load_acquire_u32(&self.ring.head.completed)
        self.w = watched(&self.ring, _completions_ready, _completions_arm, _nothing, True)

    @property
    def stream(self):
        return self.ring.stream

    @property
    def room(self):
        """Requests that can be posted now."""
        return dma_room(&self.ring)

    @property
    def next(self):
        """Index of the next request to post; indexes run free modulo 2 to the power of 32."""
        return self.ring.next

    def post(self, uint16_t kind, uint64_t iova, uint32_t length, uint32_t buffer, substream=None, uint16_t flags=0):
        """Post one request; return its index, None where the ring is full."""
        cdef uint32_t index = self.ring.next
        if not dma_post_flagged(&self.ring, kind, flags, iova, length, _substream_key(substream), buffer):
            return None
        return index

    def repeat(self, uint32_t count):
        """Post the requests that the next `count` slots hold from earlier rounds once more; return how many fit."""
        cdef uint32_t fitting = min(count, dma_room(&self.ring))
        self.ring.next += fitting
        return fitting

    def submit(self):
        """Publish what was posted; True: there was something, so ring the other side."""
        return dma_submit(&self.ring)

    @property
    def completed(self):
        """Index behind the last request dealt with; reading it takes the news."""
        return dma_completed(&self.ring)

    def status(self, uint32_t index):
        """Return what became of a completed request whose slot was not used again."""
        return dma_status(&self.ring, index)

    def translation(self, uint32_t index):
        """Return the answer to a completed translation request: (host physical address, logarithm of the block's size, permissions)."""
        cdef dma_row* slot = <dma_row*>&self.ring.slots[index & self.ring.mask]
        return slot.iova, slot.length, slot.flags


cdef class DmaServer(Watched):
    """The IOMMU's side of a DMA ring, whose requests it attributes to `stream`; ready while there are requests."""

    cdef dma_server_t server
    cdef Pinned page, device_memory
    cdef HostMap host_map
    cdef Iotlb cache
    cdef ItsCache its

    def __init__(self, Pinned page not None, Py_ssize_t offset, uint32_t slots, uint32_t stream, Pinned device_memory not None,
                 HostMap host_map not None, Iotlb cache not None):
        cdef uint8_t* at = _ring_at(page, offset, slots)
        self.page, self.device_memory, self.host_map, self.cache = page, device_memory, host_map, cache
        self.server.head = <dma_ring_head_t*>at
        self.server.slots = <dma_request_t*>(at + sizeof(dma_ring_head_t))
        self.server.mask, self.server.stream = slots - 1, stream
        self.server.buffer, self.server.buffer_size = device_memory.data, device_memory.size_bytes
        self.server.memory, self.server.tlb = &host_map.map, &cache.tlb
        self.server.served = load_acquire_u32(&self.server.head.completed)
        self.w = watched(&self.server, _requests_ready, _requests_arm, _nothing, True)

    @property
    def stream(self):
        return self.server.stream

    @property
    def counts(self):
        """Return (reads, writes, bytes read, bytes written) of host memory since the beginning."""
        return self.server.reads, self.server.writes, self.server.bytes_read, self.server.bytes_written

    @property
    def messages(self):
        """MSIs that were delivered through the cache of `lead_messages`."""
        return self.server.messages

    def lead_messages(self, uint64_t translater, ItsCache its not None):
        """Deliver MSIs whose event `its` remembers; `translater`: the host physical address to which they are written."""
        self.its, self.server.its, self.server.translater = its, &its.cache, translater

    @property
    def told(self):
        """After SERVE_TELL, what `ItsCache.post` says of the message that was delivered: (outcome, whom it concerns, doorbell)."""
        return _told(self.server.told, self.server.outcome)

    @property
    def served(self):
        """Index behind the last request dealt with."""
        return self.server.served

    def serve(self, uint32_t limit, bint fast=True):
        """Deal with up to `limit` requests through the translation cache (`fast`); return (requests dealt with, why it stopped).

        SERVE_ATTENTION: the next request is `current` and waits for `finish`. SERVE_TELL: whom `told` names is to be told; go on.
        """
        cdef uint32_t done = 0
        cdef int reason
        with nogil:
            reason = dma_serve(&self.server, limit, fast, &done)
        return done, reason

    @property
    def current(self):
        """Return the request that waits: (kind, flags, stream, substream or None, iova, length, buffer)."""
        cdef dma_row r = self.server.current
        substream = None if r.substream == DMA_REQUEST_NO_SUBSTREAM else r.substream & 0xfffff
        return r.kind, r.flags, r.stream, substream, r.iova, r.length, r.buffer

    def move(self, runs):
        """Copy between device memory and runs of host memory [(host physical address, bytes)] for the request that waits.

        False: some of it is no memory, may not be written, or lies outside device memory; then nothing moved.
        """
        cdef dma_part parts[17]
        cdef uint32_t count = 0
        cdef uint64_t total = 0
        for hpa, length in runs:
            if count == DMA_REQUEST_PIECES_MAX:
                raise ValueError("a request has more pieces than its length allows")
            parts[count].hpa, parts[count].length = hpa, length
            total += parts[count].length
            count += 1
        if total != self.server.current.length or not self.in_device_memory():
            return False
        return dma_move(&self.server, parts, count)

    cpdef bint in_device_memory(self):
        """Say whether the buffer of the request that waits lies in device memory."""
        cdef dma_row r = self.server.current
        return r.buffer + <uint64_t>r.length <= <uint64_t>self.device_memory.size_bytes

    def outgoing(self):
        """Return what the request that waits would write: the bytes of its buffer, which lies in device memory."""
        cdef dma_row r = self.server.current
        assert self.in_device_memory()
        return PyBytes_FromStringAndSize(<char*>self.device_memory.data + r.buffer, r.length)

    def answer(self, uint64_t hpa, uint32_t size_log2, uint16_t flags):
        """Put the answer to the translation request that waits into its slot; `finish` publishes it."""
        dma_answer(&self.server, hpa, size_log2, flags)

    def finish(self, uint32_t status):
        """End the request that waits."""
        dma_finish(&self.server, status)
