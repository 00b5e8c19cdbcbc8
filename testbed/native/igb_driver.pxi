"""A driver's two rings of an 82576 or one of its virtual functions."""

cdef extern from "igb_driver.h":
    cdef struct igb_tx_driver:
        slot_tx tx
        uint32_t* reports
    cdef struct igb_tx_taken:
        uint64_t frames, bytes, too_long
    const slot_tx_kind igb_tx_kind
    const slot_rx_kind igb_rx_kind
    uint32_t igb_tx_deliver(igb_tx_driver*, const burst*, uint32_t, int32_t, uint8_t*, uint32_t, igb_tx_taken*) nogil

cdef extern from "layouts.h":
    enum: VIRTIO_NET_FRAME_BYTES_MAX, IGB_RING_DESCRIPTORS_MAX


cdef class IgbTxDriver(SlotTxDriver):
    """The transmit ring of a driver of an 82576 or one of its functions."""

    cdef igb_tx_driver q
    cdef uint8_t* whole

    def __cinit__(self):
        self.whole = NULL

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_iova, uint32_t size, uint32_t slot_bytes):
        _place_slots(&self.q.tx.r, ring, slots, slots_iova, size, slot_bytes, IGB_RING_DESCRIPTORS_MAX)
        if self.q.reports == NULL:
            self.q.reports = <uint32_t*>calloc(size, sizeof(uint32_t))
        if self.whole == NULL:
            self.whole = <uint8_t*>malloc(VIRTIO_NET_FRAME_BYTES_MAX)
        if self.q.reports == NULL or self.whole == NULL:
            raise MemoryError
        self._open(&self.q.tx, &igb_tx_kind, ring, slots)

    def __dealloc__(self):
        free(self.q.reports)
        free(self.whole)

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


cdef class IgbRxDriver(SlotRxDriver):
    """The receive ring of a driver of an 82576 or one of its functions."""

    def __init__(self, Pinned ring, Pinned slots, uint64_t slots_iova, uint32_t size, uint32_t slot_bytes):
        _place_slots(&self.q.r, ring, slots, slots_iova, size, slot_bytes, IGB_RING_DESCRIPTORS_MAX)
        self._open(&igb_rx_kind, ring, slots)
