"""The trace ring of this process, for whoever is not native, and reading another process's."""

cdef extern from "trace.h":
    ctypedef struct trace_record_t:
        uint64_t sequence, at_ns
        uint16_t event, lane
        uint32_t length
        uint64_t frame
        uint64_t* arguments
    ctypedef struct trace_header_t:
        uint32_t enabled
        uint64_t head, lost
    uint32_t TRACE_RECORDS_OFFSET
    uint16_t TRACE_BELL_RUNG, TRACE_BELL_SENT
    bint trace_on() nogil
    void trace_attach(uint8_t*, uint32_t) nogil
    void trace_detach() nogil
    void trace_lane(uint16_t) nogil
    void trace_put(uint16_t, uint32_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t) nogil
    void trace_event(uint16_t, uint32_t, uint64_t, uint64_t, uint64_t, uint64_t) nogil
    bint trace_read(const uint8_t*, uint32_t, uint64_t, trace_record_t*) nogil
    void trace_put_frames(uint16_t, const burst*) nogil


cdef uint32_t _records_of(Pinned ring) except 0:
    cdef Py_ssize_t records = (ring.size_bytes - TRACE_RECORDS_OFFSET) // sizeof(trace_record_t)
    if records < 1 or records & (records - 1):
        raise ValueError(f"a trace ring has a power of two of records behind its page, not {records}")
    return records


cdef class Trace:
    """Tracepoints of Python: `if trace: trace(EVENT, ...)`. True while events are wanted."""

    cdef Pinned ring

    def __bool__(self):
        return trace_on()

    def __call__(self, uint16_t event, uint64_t a=0, uint64_t b=0, uint64_t c=0, uint64_t d=0, uint32_t length=0):
        """Record an event where events are wanted."""
        if trace_on():
            trace_put(event, length, 0, a, b, c, d)

    def attach(self, Pinned ring not None):
        """Write the events of this process into a ring from now on."""
        cdef uint32_t records = _records_of(ring)
        self.ring = ring
        trace_attach(ring.data, records)

    def detach(self):
        """Write no events any more."""
        trace_detach()
        self.ring = None

    def lane(self, uint16_t number):
        """Mark the events of the calling thread."""
        trace_lane(number)


trace = Trace()


cdef class TraceReader:
    """Reads a ring that another process goes on writing."""

    cdef Pinned ring
    cdef uint32_t records

    def __init__(self, Pinned ring not None):
        self.ring, self.records = ring, _records_of(ring)

    @property
    def head(self):
        """Records begun since the beginning."""
        return load_acquire_u64(&(<trace_header_t*>self.ring.data).head)

    @property
    def lost(self):
        """Records that their writers let go."""
        return load_acquire_u64(&(<trace_header_t*>self.ring.data).lost)

    def read(self, uint64_t after=0):
        """Return (at_ns, event, lane, length, frame, arguments) of every whole record behind number `after`, and how many are missing."""
        cdef uint64_t head = self.head, number, first = 0
        cdef trace_record_t r
        cdef list found = []
        if head > self.records:
            first = head - self.records
        first = max(first, after)
        for number in range(first + 1, head + 1):
            if trace_read(self.ring.data, self.records, number, &r):
                arguments = (r.arguments[0], r.arguments[1], r.arguments[2], r.arguments[3])
                found.append((r.at_ns, r.event, r.lane, r.length, r.frame, arguments))
        return found, head - after - len(found) if head > after else 0
