"""Back ends that are no bridge: frames are copied into a store of their own, or go back where they came from."""

cdef extern from "stdlib.h":
    void* aligned_alloc(size_t, size_t) nogil

cdef extern from "sink.h":
    cdef struct sink_store:
        uint8_t* bytes
        uint32_t size_bytes
    uint32_t sink_take(const sink_store*, const burst*, uint32_t, uint32_t, port_counters_t*, burst*) nogil
    void echo_address(burst*, int32_t, uint32_t, port_counters_t*) nogil


cdef class SinkStore(Burst):
    """Memory of a sink's own; as a burst, the frames that the last `take` copied."""

    cdef sink_store store
    cdef uint32_t frame_max

    def __cinit__(self, uint32_t size_bytes, uint32_t frame_max):
        if size_bytes < frame_max:
            raise ValueError(f"a store holds at least one frame of {frame_max} bytes, not {size_bytes} bytes")
        self.store.bytes = <uint8_t*>aligned_alloc(64, (<size_t>size_bytes + 63) // 64 * 64)
        if self.store.bytes is NULL:
            raise MemoryError
        self.store.size_bytes, self.frame_max = size_bytes, frame_max

    def __dealloc__(self):
        free(self.store.bytes)

    def take(self, Burst frames, uint32_t first, Pinned counters, Py_ssize_t offset=0, bint keep=True):
        """Copy the frames from `first` on over what was here; return the index of the first that found no room.

        Counted in the `port_counters` at `offset`: what came in, and what is too long or too short and is dropped. Without `keep` the
        copies are made all the same, but are not listed as frames of this burst.
        """
        cdef port_counters_t* count = <port_counters_t*>_at(counters, offset, sizeof(port_counters_t))
        cdef uint32_t reached
        self.b.frames_n = self.b.segments_n = 0
        with nogil:
            reached = sink_take(&self.store, &frames.b, first, self.frame_max, count, &self.b if keep else NULL)
        return reached


cdef class SinkDrain(Drain):
    """Copies every frame into a store, and checks the flows that are expected there."""

    cdef SinkStore store
    cdef Inspector inspector
    cdef Pinned counters
    cdef port_counters_t* count
    cdef readonly uint64_t now_ns
    cdef readonly bint checks

    def __init__(self, SinkStore store not None, Inspector inspector not None, Pinned counters not None, Py_ssize_t offset=0):
        self.store, self.inspector, self.counters = store, inspector, counters
        self.count = <port_counters_t*>_at(counters, offset, sizeof(port_counters_t))

    def begin(self, uint64_t now_ns, bint checks):
        """Say when what comes next arrives, and whether frames are checked."""
        self.now_ns, self.checks = now_ns, checks

    cdef bint take(self, burst* b) noexcept nogil:
        cdef uint32_t first = 0
        cdef burst* kept = &self.store.b if self.checks else NULL
        while first < b.frames_n:
            first = sink_take(&self.store.store, b, first, self.store.frame_max, self.count, kept)
            if self.checks:
                flow_inspect(&self.inspector.s, kept, self.now_ns)
        return True
