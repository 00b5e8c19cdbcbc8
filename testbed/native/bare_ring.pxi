"""A bare ring between processes: the speed that shared memory allows, to measure ours against."""

cdef extern from "bare_ring.h":
    enum: BARE_SEND, BARE_SINK, BARE_FORWARD, BARE_RECEIVE
    uint64_t bare_bytes(uint32_t, uint32_t)
    void bare_prepare(uint8_t*, uint32_t, uint32_t)
    void bare_run(uint8_t*, uint32_t, uint32_t, uint32_t, uint32_t) nogil
    uint64_t bare_frames(const uint8_t*)
    void bare_stop(uint8_t*)


cdef class BareRing:
    """Two split rings in shared memory and the processes' common counter; see bare_ring.h."""

    SEND, SINK, FORWARD, RECEIVE = BARE_SEND, BARE_SINK, BARE_FORWARD, BARE_RECEIVE

    cdef Pinned shared
    cdef uint32_t size, frame_bytes

    @staticmethod
    def bytes_needed(uint32_t size, uint32_t frame_bytes):
        """Return how much memory rings of `size` entries for such frames take."""
        return bare_bytes(size, frame_bytes)

    def __init__(self, Pinned shared, uint32_t size, uint32_t frame_bytes):
        if not 0 < size <= VIRTIO_QUEUE_SIZE_MAX or size & (size - 1) or frame_bytes < FLOW_FRAME_BYTES_MIN:
            raise ValueError(f"a bare ring of {size} entries for frames of {frame_bytes} bytes: a power of two, {FLOW_FRAME_BYTES_MIN} bytes")
        _at(shared, 0, bare_bytes(size, frame_bytes))
        self.shared, self.size, self.frame_bytes = shared, size, frame_bytes

    def prepare(self):
        """Lay the rings out; once, before any process runs."""
        bare_prepare(self.shared.data, self.size, self.frame_bytes)

    def run(self, uint32_t roles, uint32_t in_flight=0):
        """Play these roles until `stop`; a sender keeps at most `in_flight` frames on their way (0: as many as fit)."""
        with nogil:
            bare_run(self.shared.data, self.size, self.frame_bytes, roles, in_flight)

    @property
    def frames(self):
        """Frames that reached the last process."""
        return bare_frames(self.shared.data)

    def stop(self):
        """Have every process leave."""
        bare_stop(self.shared.data)
