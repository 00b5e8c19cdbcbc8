"""A driver's two rings of an 82576 or one of its virtual functions."""

cdef extern from "igb_driver.h":
    cdef struct igb_desc:
        uint64_t address
    cdef struct igb_tx_driver:
        igb_desc* ring
        uint8_t* slots
        uint64_t slots_iova
        uint32_t size, slot_bytes, used, next
        uint32_t* reports
    cdef struct igb_rx_driver:
        igb_desc* ring
        uint8_t* slots
        uint64_t slots_iova
        uint32_t size, slot_bytes, tail, taken
        uint64_t errors
    cdef struct igb_tx_taken:
        uint64_t frames, bytes, too_long
    void igb_tx_layout(igb_tx_driver*)
    uint32_t igb_tx_reclaim(igb_tx_driver*) nogil
    uint32_t igb_tx_reserve(igb_tx_driver*, burst*, uint32_t) nogil
    uint32_t igb_tx_send(igb_tx_driver*, const burst*, uint32_t, uint32_t) nogil
    uint32_t igb_tx_deliver(igb_tx_driver*, const burst*, uint32_t, int32_t, uint8_t*, uint32_t, igb_tx_taken*) nogil
    bint igb_tx_ready(void*) noexcept nogil
    void igb_rx_layout(igb_rx_driver*)
    uint32_t igb_rx_collect(igb_rx_driver*, burst*, uint32_t) nogil
    uint32_t igb_rx_post(igb_rx_driver*) nogil
    bint igb_rx_ready(void*) noexcept nogil

cdef extern from "layouts.h":
    enum: VIRTIO_NET_FRAME_BYTES_MAX


cdef uint32_t _igb_size(uint32_t size) except 0:
    if size < 8 or size % 8 or size > 32768:
        raise ValueError(f"a ring has a multiple of 8 descriptors up to 32768, not {size}")
    return size


cdef class IgbTxDriver(Watched):
    """A driver's transmit ring and buffers, in memory that it has mapped. Ready when a sent frame can be reclaimed."""

    cdef igb_tx_driver q
    cdef Pinned ring, slots
    cdef uint8_t* whole

    def __cinit__(self):
        self.whole = NULL

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_iova, uint32_t size, uint32_t slot_bytes):
        _igb_size(size)
        self.ring, self.slots = ring, slots
        self.q.ring = <igb_desc*>_at(ring, 0, 16 * size)
        self.q.slots = _at(slots, 0, <Py_ssize_t>size * slot_bytes)
        self.q.slots_iova, self.q.size, self.q.slot_bytes = slots_iova, size, slot_bytes
        if self.q.reports == NULL:
            self.q.reports = <uint32_t*>calloc(size, sizeof(uint32_t))
        if self.whole == NULL:
            self.whole = <uint8_t*>malloc(VIRTIO_NET_FRAME_BYTES_MAX)
        if self.q.reports == NULL or self.whole == NULL:
            raise MemoryError
        igb_tx_layout(&self.q)
        self.w = watched(&self.q, igb_tx_ready, igb_tx_ready, _nothing, True)

    def __dealloc__(self):
        free(self.q.reports)
        free(self.whole)

    def clear(self):
        """Forget what was sent: the device has been reset."""
        igb_tx_layout(&self.q)

    def reserve(self, Burst to, uint32_t want=256):
        """Open up to `want` free slots as frames to fill; return how many there are."""
        with nogil:
            igb_tx_reserve(&self.q, &to.b, want)
        return to.b.frames_n

    def send(self, Burst filled, uint32_t first, uint32_t count):
        """Describe frames of a reserved and filled burst, in order; return the new tail."""
        cdef uint32_t tail
        with nogil:
            tail = igb_tx_send(&self.q, &filled.b, first, count)
        return tail

    def deliver(self, Burst frames, uint32_t first, int32_t port):
        """Copy the frames from `first` on that are for `port` into the ring.

        Returns (index of the first that must wait, or the burst's length; frames; bytes; frames too long).
        """
        cdef igb_tx_taken taken
        cdef uint32_t reached
        memset(&taken, 0, sizeof(taken))
        with nogil:
            reached = igb_tx_deliver(&self.q, &frames.b, first, port, self.whole, VIRTIO_NET_FRAME_BYTES_MAX, &taken)
        return reached, taken.frames, taken.bytes, taken.too_long

    def reclaim(self):
        """Take back what has been sent; return how many frames that is."""
        return igb_tx_reclaim(&self.q)

    @property
    def tail(self):
        return self.q.next

    @property
    def in_flight(self):
        """Frames that the device has not given back."""
        return self.q.used


cdef class IgbRxDriver(Watched):
    """A driver's receive ring and buffers. Ready when a descriptor has been written back."""

    cdef igb_rx_driver q
    cdef Pinned ring, slots

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_iova, uint32_t size, uint32_t slot_bytes):
        _igb_size(size)
        self.ring, self.slots = ring, slots
        self.q.ring = <igb_desc*>_at(ring, 0, 16 * size)
        self.q.slots = _at(slots, 0, <Py_ssize_t>size * slot_bytes)
        self.q.slots_iova, self.q.size, self.q.slot_bytes = slots_iova, size, slot_bytes
        igb_rx_layout(&self.q)
        self.w = watched(&self.q, igb_rx_ready, igb_rx_ready, _nothing, True)

    def clear(self):
        """Start again with every buffer empty: the device has been reset."""
        igb_rx_layout(&self.q)

    def collect(self, Burst to, uint32_t limit=256):
        """Take received frames; return how many. One burst at a time: `post` gives its buffers back."""
        with nogil:
            igb_rx_collect(&self.q, &to.b, limit)
        return to.b.frames_n

    def post(self):
        """Give the buffers of the collected burst back to the device; return the new tail."""
        cdef uint32_t tail
        with nogil:
            tail = igb_rx_post(&self.q)
        return tail

    @property
    def tail(self):
        return self.q.tail

    @property
    def taken(self):
        """Descriptors that `post` will give back."""
        return self.q.taken

    @property
    def errors(self):
        """Frames whose descriptors no device may write."""
        return self.q.errors
