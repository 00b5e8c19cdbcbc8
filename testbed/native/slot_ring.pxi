"""What drivers' rings have in common where each descriptor has a slot of memory for a frame."""

cdef extern from "slot_ring.h":
    cdef struct slot_desc:
        uint64_t address
    cdef struct slot_ring:
        slot_desc* desc
        uint8_t* slots
        uint64_t slots_address
        uint32_t size, slot_bytes
    cdef struct slot_tx:
        slot_ring r
        uint32_t used, next
    cdef struct slot_tx_kind:
        void (*layout)(slot_tx*) noexcept nogil
        uint32_t (*reclaim)(slot_tx*) noexcept nogil
        uint32_t (*send)(slot_tx*, const burst*, uint32_t, uint32_t) noexcept nogil
        bint (*ready)(void*) noexcept nogil
    cdef struct slot_rx:
        slot_ring r
        uint32_t tail, taken
        uint64_t posted, errors
    cdef struct slot_rx_kind:
        uint32_t (*collect)(slot_rx*, burst*, uint32_t) noexcept nogil
        bint (*ready)(void*) noexcept nogil
    uint32_t slot_tx_reserve(slot_tx*, burst*, uint32_t, uint32_t (*)(slot_tx*) noexcept nogil) noexcept nogil
    void slot_rx_layout(slot_rx*) noexcept nogil
    uint32_t slot_rx_post(slot_rx*) noexcept nogil


cdef int _place_slots(slot_ring* r, Pinned ring, Pinned slots, uint64_t address, uint32_t size, uint32_t slot_bytes,
                      uint32_t size_max) except -1:
    """Put a ring and its slots where they are in memory; ValueError where the device cannot have such a ring."""
    if size < 8 or size % 8 or size > size_max:
        raise ValueError(f"a ring has a multiple of 8 descriptors up to {size_max}, not {size}")
    r.desc = <slot_desc*>_at(ring, 0, <Py_ssize_t>size * sizeof(slot_desc))
    r.slots = _at(slots, 0, <Py_ssize_t>size * slot_bytes)
    r.slots_address, r.size, r.slot_bytes = address, size, slot_bytes
    return 0


cdef class SlotTxDriver(Watched):
    """A driver's transmit ring and buffers, in memory that it has mapped. Ready when a sent frame can be reclaimed."""

    cdef slot_tx* tx
    cdef const slot_tx_kind* kind
    cdef Pinned ring, slots

    cdef int _open(self, slot_tx* tx, const slot_tx_kind* kind, Pinned ring, Pinned slots) except -1:
        self.tx, self.kind, self.ring, self.slots = tx, kind, ring, slots
        kind.layout(tx)
        self.w = watched(tx, kind.ready, kind.ready, _nothing, True)
        return 0

    def clear(self):
        """Forget what was sent: the device has been reset."""
        self.kind.layout(self.tx)

    def reserve(self, Burst to, uint32_t want=256):
        """Open up to `want` free slots as frames to fill; return how many there are."""
        with nogil:
            slot_tx_reserve(self.tx, &to.b, want, self.kind.reclaim)
        return to.b.frames_n

    def send(self, Burst filled, uint32_t first, uint32_t count):
        """Describe frames of a reserved and filled burst, in order; return the new tail."""
        cdef uint32_t tail
        with nogil:
            tail = self.kind.send(self.tx, &filled.b, first, count)
        return tail

    def transmit(self, Filler source not None, Burst through not None, uint32_t want, uint32_t least, uint32_t step, TailDoorbell tail=None):
        """Fill and send up to `want` frames as long as there are slots, nothing where fewer than `least` are free; each `step` frames and
        behind the last the tail is written. A piece is as small as serves the nearest cache.

        Return (frames, bytes, tail writes, the device sleeps, the tail that is still to be written or None); without `tail`, or where its window
        is full, that is the caller's to do. ValueError where a slot has no room for the longest frame.
        """
        cdef uint32_t sent = 0, unshown = 0, kicks = 0, piece, i
        cdef uint64_t total = 0
        cdef bint asleep = False, full = tail is None
        if source.longest > self.tx.r.slot_bytes:
            raise ValueError(f"a slot of {self.tx.r.slot_bytes} bytes has no room for a frame of {source.longest} bytes")
        with nogil:
            if self.tx.r.size - 1 - self.tx.used < least:
                self.kind.reclaim(self.tx)
                if self.tx.r.size - 1 - self.tx.used < least:
                    want = 0
            while sent < want:
                piece = slot_tx_reserve(self.tx, &through.b, min(want - sent, <uint32_t>PASS_FRAMES), self.kind.reclaim)
                if not piece:
                    if not sent or not linger(self.w.ready, self.w.what):
                        break
                    continue
                source.write(&through.b)
                for i in range(piece):
                    total += through.b.frames[i].len
                self.kind.send(self.tx, &through.b, 0, piece)
                sent += piece
                unshown += piece
                if unshown >= step and not full:
                    full = not tail.write(self.tx.next, &asleep)
                    if not full:
                        kicks += 1
                        unshown = 0
                if full and unshown >= step:
                    break
            if unshown and not full:
                full = not tail.write(self.tx.next, &asleep)
                if not full:
                    kicks += 1
                    unshown = 0
        return sent, total, kicks, bool(asleep), self.tx.next if unshown else None

    def reclaim(self):
        """Take back what has been sent; return how many frames that is."""
        return self.kind.reclaim(self.tx)

    @property
    def tail(self):
        return self.tx.next

    @property
    def in_flight(self):
        """Frames that the device has not given back."""
        return self.tx.used


cdef class SlotRxDriver(Watched):
    """A driver's receive ring and buffers. Ready when a descriptor has been written back."""

    cdef slot_rx q
    cdef const slot_rx_kind* kind
    cdef Pinned ring, slots

    cdef int _open(self, const slot_rx_kind* kind, Pinned ring, Pinned slots) except -1:
        self.kind, self.ring, self.slots = kind, ring, slots
        slot_rx_layout(&self.q)
        self.w = watched(&self.q, kind.ready, kind.ready, _nothing, True)
        return 0

    def clear(self):
        """Start again with every buffer empty: the device has been reset."""
        slot_rx_layout(&self.q)

    def collect(self, Burst to, uint32_t limit=256):
        """Take received frames; return how many. One burst at a time: `post` gives its buffers back."""
        with nogil:
            self.kind.collect(&self.q, &to.b, limit)
        return to.b.frames_n

    def receive(self, Inspector inspector not None, Burst through not None, uint32_t limit, uint64_t now_ns):
        """Take up to `limit` frames, a piece at a time, check each and give the buffers back.

        Return (frames, bytes, foreign frames, requests). Where there are requests, the last piece was collected and not given back: its frames are
        to be answered, and `post` is to follow.
        """
        cdef uint32_t got = 0, foreign = 0, piece, i
        cdef uint64_t total = 0
        cdef inspected seen
        seen.requests = 0
        with nogil:
            while got < limit:
                piece = self.kind.collect(&self.q, &through.b, min(limit - got, <uint32_t>PASS_FRAMES))
                if not piece:
                    break
                for i in range(piece):
                    total += through.b.frames[i].len
                seen = flow_inspect(&inspector.s, &through.b, now_ns)
                got += piece
                foreign += seen.foreign
                if seen.requests:
                    break
                slot_rx_post(&self.q)
        return got, total, foreign, seen.requests

    def post(self):
        """Give the buffers of the collected burst back; the device has them when it is told the new tail."""
        with nogil:
            slot_rx_post(&self.q)

    @property
    def tail(self):
        return self.q.tail

    @property
    def posted(self):
        """Buffers given back since the ring was laid out; also by `collect`, where all that had come was bad."""
        return self.q.posted

    @property
    def taken(self):
        """Descriptors that `post` will give back."""
        return self.q.taken

    @property
    def errors(self):
        """Frames that the device marked as bad, or whose descriptors no device may write."""
        return self.q.errors
