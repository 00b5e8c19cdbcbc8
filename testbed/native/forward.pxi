"""The bridge's native way for bursts that all go to one port."""

cdef extern from "forward.h":
    cdef struct forward_port:
        delivery* to[16]
        uint32_t n
    cdef struct c_forward "forward":
        mac_table* table
        forward_port* ports
        const uint32_t* now_seconds
        int16_t source
        uint32_t frame_max
        port_counters_t* count
        int32_t called
        bint call
        uint32_t reached
    bint forward_burst(c_forward*, burst*) nogil


cdef class EchoDrain(Drain):
    """Delivers frames to the queues of the NIC that sent them."""

    cdef delivery* to[16]
    cdef uint32_t queues, frame_max
    cdef int32_t port
    cdef readonly uint32_t reached
    """Of a burst that stays: the first frame that waits for a buffer."""
    cdef bint call, broke
    cdef list keep
    cdef Pinned counters
    cdef port_counters_t* count

    def __init__(self, int32_t port, uint32_t frame_max, Pinned counters not None, Py_ssize_t offset=0):
        self.port, self.frame_max, self.counters, self.keep = port, frame_max, counters, []
        self.count = <port_counters_t*>_at(counters, offset, sizeof(port_counters_t))

    def open(self, rings):
        """Deliver to these queues from now on; to nobody where there are none."""
        self.queues = 0
        self.keep = list(rings)
        if self.keep:
            self.queues = _deliveries(self.keep, self.to)

    cdef bint take(self, burst* b) noexcept nogil:
        cdef uint32_t i
        echo_address(b, self.port, self.frame_max, self.count)
        self.reached = 0
        if not self.queues:
            return False
        self.reached = deliver_flows(self.to, self.queues, b, 0, self.port)
        for i in range(self.queues):
            self.call |= self.to[i].publish(self.to[i].queue)
            self.broke |= self.to[i].fault[0] != 0
        self.enough = self.call or self.broke
        return self.reached == b.frames_n

    def take_called(self):
        """Return (the driver wants a call, it or a queue that broke is to be seen to); asked once."""
        cdef bint call = self.call, broke = self.broke
        self.call = self.broke = False
        return bool(call), bool(call or broke)


cdef class ForwardTable:
    """The ports of a bridge to which frames can be delivered natively, and the time for learning."""

    cdef forward_port* ports
    cdef MacTable table
    cdef dict keep
    cdef uint32_t now

    def __init__(self, MacTable table not None):
        self.table, self.keep = table, {}
        self.ports = <forward_port*>calloc(PORTS_MAX, sizeof(forward_port))
        if self.ports is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.ports)

    @property
    def now_seconds(self):
        return self.now

    @now_seconds.setter
    def now_seconds(self, uint32_t value):
        self.now = value

    def open(self, int16_t port, rings):
        """Deliver frames for a port to these queues from now on, natively where there are any."""
        _check_port(port)
        self.ports[port].n = 0
        self.keep[port] = list(rings)
        if self.keep[port]:
            self.ports[port].n = _deliveries(self.keep[port], self.ports[port].to)

    def close(self, int16_t port):
        """Leave frames for a port to its owner."""
        self.open(port, ())


cdef class Forward(Drain):
    """What is done natively with the bursts of one port of a bridge."""

    cdef c_forward f
    cdef ForwardTable forwards
    cdef Pinned counters

    def __init__(self, ForwardTable forwards not None, int16_t source, Pinned counters not None, Py_ssize_t offset, uint32_t frame_max):
        _check_port(source)
        self.forwards, self.counters = forwards, counters
        self.f.table, self.f.ports, self.f.now_seconds = &forwards.table.t, forwards.ports, &forwards.now
        self.f.source, self.f.frame_max, self.f.called = source, frame_max, -1
        self.f.count = <port_counters_t*>_at(counters, offset, sizeof(port_counters_t))

    cdef bint take(self, burst* b) noexcept nogil:
        cdef bint done = forward_burst(&self.f, b)
        self.enough = self.f.called >= 0
        return done

    def take_called(self):
        """Return (port, its driver wants a call), port -1 where nobody has anything to do; asked once."""
        cdef int32_t port = self.f.called
        cdef bint call = self.f.call
        self.f.called, self.f.call = -1, False
        return port, bool(call)

    @property
    def reached(self):
        """Of a burst that stays: the first frame that its only receiver has not got."""
        return self.f.reached

    @property
    def targets(self):
        """Of a burst that stays: (ports, flood), whom it concerns."""
        return self.forwards.table.targets
