"""What the driver's side of every virtqueue has in common."""

cdef extern from "layouts.h":
    ctypedef struct virtio_net_hdr_t:
        uint8_t flags
    ctypedef struct virtq_desc_t:
        uint64_t addr

cdef extern from "driver_buffers.h":
    cdef struct driver_buffers:
        uint8_t* host
        uint64_t gpa
        uint32_t slot_bytes, count, parts
        uint32_t free_n
        bint merge, in_order
    bint buffers_init(driver_buffers*)
    void buffers_destroy(driver_buffers*)
    void buffers_untake(driver_buffers*, uint32_t) nogil


cdef void _own_buffers(driver_buffers* b, Pinned slots, uint64_t gpa, uint32_t slot_bytes, uint32_t size, uint32_t parts, bint indirect,
                       bint merge, bint in_order) except *:
    """Lay equal buffers into `slots`: as many as the ring's descriptors suffice for. Every descriptor of one has a byte at least."""
    if not 0 < parts <= size or slot_bytes < sizeof(virtio_net_hdr_t) + parts:
        raise ValueError(f"buffers of {slot_bytes} bytes in {parts} parts do not go into a ring of {size} descriptors")
    b.count = size if indirect else size // parts
    b.host = _at(slots, 0, <Py_ssize_t>b.count * slot_bytes)
    b.gpa, b.slot_bytes, b.parts, b.merge, b.in_order = gpa, slot_bytes, parts, merge, in_order
    if not buffers_init(b):
        raise MemoryError


cdef uint8_t* _tables(Pinned tables, Py_ssize_t descriptors) except? NULL:
    """Return where indirect tables of so many descriptors are, NULL where there are none."""
    return NULL if tables is None else _at(tables, 0, descriptors * sizeof(virtq_desc_t))


cdef class DriverRing(Watched):
    """The driver's side of a virtqueue and its buffers; SplitDriver and PackedDriver are the two formats."""

    cdef driver_buffers* own
    cdef Pinned rings, slots, tables

    cdef uint32_t open(self, burst* b, uint32_t want) noexcept nogil:
        return 0

    cdef void hand_over(self, burst* b) noexcept nogil:
        pass

    cdef void take_back(self) noexcept nogil:
        pass

    cdef uint32_t gather(self, burst* b, uint32_t limit) noexcept nogil:
        return 0

    cdef void offer(self, const burst* b) noexcept nogil:
        pass

    cdef void offer_all(self) noexcept nogil:
        pass

    cdef bint show(self) noexcept nogil:
        return False

    cdef bint is_broken(self) noexcept nogil:
        return False

    def __dealloc__(self):
        if self.own is not NULL:
            buffers_destroy(self.own)

    def reserve(self, Burst to, uint32_t want=BURST_FRAMES):
        """Open up to `want` free buffers as frames to fill; return how many there are."""
        with nogil:
            self.open(&to.b, want)
        return to.b.frames_n

    def send(self, Burst filled):
        """Make the frames of a reserved and filled burst available; True: the device wants a kick."""
        cdef bint kick
        with nogil:
            self.hand_over(&filled.b)
            kick = self.show()
        return kick

    def release(self, Burst reserved, uint32_t first=0):
        """Take back the reserved frames from `first` on that will not be sent; only the last reservation can be taken back."""
        if first < reserved.b.frames_n:
            buffers_untake(self.own, reserved.b.frames_n - first)
            reserved.b.frames_n = first

    def transmit(self, Filler source not None, Burst through not None, uint32_t want, uint32_t least=1):
        """Fill and send up to `want` frames, burst by burst, as long as there are buffers; nothing where fewer than `least` are free.

        Return (frames, bytes, the device wants a kick). A burst is as small as serves the nearest cache; ValueError where a buffer has no room
        for the longest frame of `source`.
        """
        cdef uint32_t sent = 0, piece, i
        cdef uint64_t total = 0
        cdef bint kick = False
        if sizeof(virtio_net_hdr_t) + source.longest > self.own.slot_bytes:
            raise ValueError(f"a buffer of {self.own.slot_bytes} bytes has no room for a frame of {source.longest} bytes")
        with nogil:
            if self.own.free_n < want:
                self.take_back()
            while sent < want and self.own.free_n >= least:
                piece = self.open(&through.b, min(want - sent, <uint32_t>PASS_FRAMES))
                if not piece:
                    break
                source.write(&through.b)
                for i in range(piece):
                    total += through.b.frames[i].len
                self.hand_over(&through.b)
                kick |= self.show()
                sent += piece
                least = min(least, <uint32_t>PASS_FRAMES)
                while self.own.free_n < min(want - sent, <uint32_t>PASS_FRAMES) and linger(self.w.ready, self.w.what):
                    self.take_back()
        return sent, total, bool(kick)

    def collect(self, Burst to, uint32_t limit=BURST_FRAMES):
        """Take received frames into `to`; return how many. Their buffers stay theirs until `post`."""
        with nogil:
            self.gather(&to.b, limit)
        return to.b.frames_n

    def post(self, Burst emptied):
        """Make the buffers of a collected burst available again; True: the device wants a kick."""
        cdef bint kick
        with nogil:
            self.offer(&emptied.b)
            kick = self.show()
        return kick

    def receive(self, Inspector inspector not None, Burst through not None, uint32_t limit, uint64_t now_ns):
        """Collect up to `limit` frames, burst by burst, check each and post the buffers again.

        Return (frames, bytes, foreign frames, requests, the device wants a kick). Where there are requests, the last burst was collected and
        not posted: its frames are to be answered.
        """
        cdef uint32_t got = 0, foreign = 0, piece, i
        cdef uint64_t total = 0
        cdef bint kick = False
        cdef inspected seen
        seen.requests = 0
        with nogil:
            while got < limit:
                piece = self.gather(&through.b, min(limit - got, <uint32_t>PASS_FRAMES))
                if not piece:
                    if got >= <uint32_t>PASS_FRAMES and linger(self.w.ready, self.w.what):
                        continue
                    break
                for i in range(piece):
                    total += through.b.frames[i].len
                seen = flow_inspect(&inspector.s, &through.b, now_ns)
                got += piece
                foreign += seen.foreign
                if seen.requests:
                    break
                self.offer(&through.b)
                kick |= self.show()
        return got, total, foreign, seen.requests, bool(kick)

    def post_all(self):
        """Make every free buffer available; True: the device wants a kick."""
        self.offer_all()
        return bool(self.show())

    def reclaim(self):
        """Take back the buffers of frames that were sent; return how many buffers are free."""
        self.take_back()
        return self.own.free_n

    @property
    def buffers(self):
        return self.own.count

    @property
    def free(self):
        return self.own.free_n

    @property
    def broken(self):
        """The device gave back what it never had: nothing from it can be trusted."""
        return bool(self.is_broken())
