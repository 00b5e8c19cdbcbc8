"""Frames of workloads: filling them at the sender, checking them at the receiver."""

cdef extern from "flow.h":
    enum: SIZES_MAX, FLOWS_MAX, REPLAYS_MAX
    cdef struct flow_source:
        uint32_t flow
        uint16_t magic
        bint checked
        uint32_t sizes_n, next_size
        uint8_t* templates
        uint64_t sequence
    cdef struct replay_source:
        const uint8_t* bytes
        const uint32_t* offsets
        uint32_t frames_n
        uint64_t sequence, total
    cdef struct flow_sink:
        uint32_t flow
        uint16_t magic
        bint checked
        uint8_t source_mac[6]
        uint64_t next, received, bytes, reordered, corrupted, duplicated
        uint64_t first_ns, last_ns
        const uint32_t* digests
        uint32_t digests_n
        uint64_t total
    cdef struct sinks:
        flow_sink* flow[4096]
        flow_sink* replay[64]
        uint32_t replays_n
        uint64_t foreign
        uint32_t* gate
    cdef struct inspected:
        uint32_t data, requests, replies, foreign
    uint32_t flow_digest(const uint8_t*, uint32_t) nogil
    void flow_template(flow_source*, uint32_t, uint32_t, const uint8_t*) nogil
    bint flow_fits(const burst*, uint32_t) nogil
    void flow_fill(flow_source*, burst*) nogil
    void replay_fill(replay_source*, burst*) nogil
    inspected flow_inspect(sinks*, const burst*, uint64_t) nogil
    uint32_t flow_echo(const burst*, burst*, uint32_t) nogil
    enum: FLOW_FRAME_BYTES_MIN, FLOW_FRAME_BYTES_MAX, FLOW_TAG_OFFSET


def frame_digest(const uint8_t[::1] frame):
    """Return the 32-bit digest of a whole frame."""
    return flow_digest(&frame[0], frame.shape[0]) if frame.shape[0] else flow_digest(NULL, 0)


cdef class Filler:
    """Writes the next frames of a flow into reserved buffers."""

    cdef uint32_t longest
    """The longest frame that it writes."""

    cdef void write(self, burst* b) noexcept nogil:
        """Fill every reserved frame; each has room for the longest."""
        pass

    def fill(self, Burst reserved not None):
        """Write the next frames into every reserved slot of a burst; raises ValueError where one is too small."""
        if not flow_fits(&reserved.b, self.longest):
            raise ValueError(f"a reserved buffer has no room for a frame of {self.longest} bytes")
        with nogil:
            self.write(&reserved.b)


cdef class FlowSource(Filler):
    """Generates the frames of one flow, sizes in turn."""

    cdef flow_source s

    def __cinit__(self, uint32_t flow, uint16_t magic, sizes, headers):
        if not 0 < len(sizes) <= SIZES_MAX:
            raise ValueError(f"a flow has 1 to {SIZES_MAX} frame sizes, not {len(sizes)}")
        self.s.flow, self.s.magic, self.s.sizes_n = flow, magic, len(sizes)
        self.s.templates = <uint8_t*>malloc(<size_t>len(sizes) * FLOW_FRAME_BYTES_MAX)
        if self.s.templates is NULL:
            raise MemoryError
        cdef const uint8_t[::1] head
        cdef uint32_t i
        for i in range(len(sizes)):
            head = headers[i]
            if not FLOW_FRAME_BYTES_MIN <= sizes[i] <= FLOW_FRAME_BYTES_MAX or head.shape[0] != FLOW_TAG_OFFSET:
                raise ValueError(f"a generated frame has {FLOW_FRAME_BYTES_MIN} to {FLOW_FRAME_BYTES_MAX} bytes, not {sizes[i]}")
            flow_template(&self.s, i, sizes[i], &head[0])
        self.longest = max(sizes)

    def __dealloc__(self):
        free(self.s.templates)

    cdef void write(self, burst* b) noexcept nogil:
        flow_fill(&self.s, b)

    @property
    def sequence(self):
        """How many frames were written so far."""
        return self.s.sequence


cdef class ReplaySource(Filler):
    """Sends the frames of a capture, in order, again and again."""

    cdef replay_source s
    cdef Pinned content, offsets

    def __init__(self, content, offsets):
        """`content`: all frames end to end; `offsets`: n + 1 unsigned 32-bit offsets into it, ValueError where they are not."""
        self.content, self.offsets = Pinned(content, False), Pinned(offsets, False)
        if self.offsets.size_bytes < 8 or self.offsets.size_bytes % 4 or <uint64_t>self.offsets.data % 4:
            raise ValueError(f"a replay has the offsets of one frame at least and of its end, not {self.offsets.size_bytes} bytes")
        self.s.bytes, self.s.offsets = self.content.data, <uint32_t*>self.offsets.data
        self.s.frames_n = self.offsets.size_bytes // 4 - 1
        self.longest = 0
        cdef uint32_t i
        for i in range(self.s.frames_n):
            if not self.s.offsets[i] <= self.s.offsets[i + 1] <= self.content.size_bytes:
                raise ValueError(f"frame {i} of a replay ends at {self.s.offsets[i + 1]}, which is not in its {self.content.size_bytes} bytes")
            self.longest = max(self.longest, self.s.offsets[i + 1] - self.s.offsets[i])

    cdef void write(self, burst* b) noexcept nogil:
        replay_fill(&self.s, b)

    @property
    def sequence(self):
        return self.s.sequence


cdef class FlowSink:
    """What arrived of one flow."""

    cdef flow_sink* k
    cdef Pinned digests

    def __cinit__(self, uint32_t flow, uint16_t magic, bint checked=True, digests=None, uint64_t total=0, source_mac=b""):
        if flow >= FLOWS_MAX:
            raise ValueError(f"a flow id is below {FLOWS_MAX}, not {flow}")
        self.k = <flow_sink*>calloc(1, sizeof(flow_sink))
        if self.k is NULL:
            raise MemoryError
        self.k.flow, self.k.magic, self.k.checked = flow, magic, checked
        cdef const uint8_t[::1] mac
        if digests is not None:
            self.digests = Pinned(digests, False)
            if self.digests.size_bytes < 4 or self.digests.size_bytes % 4 or len(source_mac) != 6:
                raise ValueError(
                    f"a replay has digests of 4 bytes each and a source address of 6, not {self.digests.size_bytes} and {len(source_mac)}")
            self.k.digests = <uint32_t*>self.digests.data
            self.k.digests_n = self.digests.size_bytes // 4
            self.k.total = total
            mac = source_mac
            memcpy(self.k.source_mac, &mac[0], 6)

    def __dealloc__(self):
        free(self.k)

    @property
    def received(self):
        return self.k.received

    @property
    def byte_count(self):
        return self.k.bytes

    @property
    def reordered(self):
        return self.k.reordered

    @property
    def corrupted(self):
        return self.k.corrupted

    @property
    def duplicated(self):
        return self.k.duplicated

    @property
    def next_sequence(self):
        return self.k.next

    @property
    def span_ns(self):
        """From the first frame's arrival to the last one's."""
        return self.k.last_ns - self.k.first_ns


cdef class Gate:
    """Lets one thread at a time account a burst."""

    cdef uint32_t held


cdef class Inspector:
    """Checks received bursts against every flow that is expected."""

    cdef sinks s
    cdef dict keep
    cdef Gate gate

    def __init__(self):
        self.keep = {}

    def share(self, Gate gate not None):
        """Account in the same sinks as inspectors of other threads that share the gate."""
        self.gate = gate
        self.s.gate = &gate.held

    def add(self, FlowSink sink):
        """Expect a flow from now on, in place of one with the same id; raises ValueError where there are too many replays."""
        self.remove(self.keep.get(sink.k.flow, sink))
        if sink.k.digests is NULL:
            self.s.flow[sink.k.flow] = sink.k
        elif self.s.replays_n < REPLAYS_MAX:
            self.s.replay[self.s.replays_n] = sink.k
            self.s.replays_n += 1
        else:
            raise ValueError(f"a guest receives at most {REPLAYS_MAX} replays at a time")
        self.keep[sink.k.flow] = sink

    def remove(self, FlowSink sink):
        """Expect a flow no more."""
        cdef uint32_t i
        if self.keep.pop(sink.k.flow, None) is None:
            return
        self.s.flow[sink.k.flow] = NULL
        for i in range(self.s.replays_n):
            if self.s.replay[i] is sink.k:
                self.s.replays_n -= 1
                self.s.replay[i] = self.s.replay[self.s.replays_n]
                break

    def inspect(self, Burst received, uint64_t now_ns):
        """Check every frame; return how many were (data, requests, replies, foreign)."""
        cdef inspected seen
        with nogil:
            seen = flow_inspect(&self.s, &received.b, now_ns)
        return seen.data, seen.requests, seen.replies, seen.foreign

    @property
    def foreign(self):
        return self.s.foreign


def echo(Burst requests, Burst replies, uint32_t skip=0):
    """Write the answer to every request but the first `skip` into the reserved frames of `replies`; return how many were written."""
    return flow_echo(&requests.b, &replies.b, skip)
