"""The bridge's table of addresses."""

cdef extern from "mac_table.h":
    enum: PORTS_MAX
    cdef struct mac_entry:
        uint64_t mac
        uint32_t stamp
        int16_t port
        bint fixed, used
    cdef struct mac_port:
        bint open
        uint32_t learned
    cdef struct mac_table:
        mac_entry* entries
        uint32_t mask, count, learned_max, age
        mac_port ports[1024]
        int32_t targets[64]
        uint32_t targets_n
        bint flood
    bint mac_table_put(mac_table*, uint64_t, int16_t, bint, uint32_t) nogil
    int32_t mac_table_find(const mac_table*, uint64_t) nogil
    void mac_table_drop_port(mac_table*, int16_t) nogil
    void mac_table_expire(mac_table*, uint32_t) nogil
    void mac_table_classify(mac_table*, burst*, int16_t, uint32_t, port_counters_t*, uint32_t) nogil


cdef uint64_t _mac_word(mac: bytes) except? 0:
    if len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    return int.from_bytes(mac, "little")


cdef int _check_port(int16_t port) except -1:
    if not 0 <= port < <int>PORTS_MAX:
        raise ValueError(f"a bridge has ports 0 to {PORTS_MAX - 1}, not {port}")
    return 0


cdef class MacTable:
    """Learned and fixed addresses of a bridge, and the decision where each frame of a burst goes."""

    cdef mac_table t

    def __cinit__(self, uint32_t size=4096, uint32_t learned_max=1024, uint32_t age_seconds=300):
        if size < 4 or size & (size - 1):
            raise ValueError(f"table size must be a power of two from 4 on, not {size}")
        self.t.entries = <mac_entry*>calloc(size, sizeof(mac_entry))
        if self.t.entries is NULL:
            raise MemoryError
        self.t.mask, self.t.learned_max, self.t.age = size - 1, learned_max, age_seconds

    def __dealloc__(self):
        free(self.t.entries)

    def __len__(self):
        return self.t.count

    def open_port(self, int16_t port, bint is_open):
        """Say whether frames may go to a port; raises ValueError for a port number out of range."""
        _check_port(port)
        self.t.ports[port].open = is_open

    def fix(self, mac: bytes, int16_t port):
        """Bind an address to a port for good; raises ValueError for a port number out of range."""
        _check_port(port)
        return mac_table_put(&self.t, _mac_word(mac), port, True, 0)

    def find(self, mac: bytes):
        """Return the port of an address, or -1."""
        return mac_table_find(&self.t, _mac_word(mac))

    def drop_port(self, int16_t port):
        """Forget every address of a port."""
        mac_table_drop_port(&self.t, port)

    def expire(self, uint32_t now_seconds):
        """Forget learned addresses that were not seen for the age."""
        mac_table_expire(&self.t, now_seconds)

    def classify(self, Burst frames, int16_t source, uint32_t now_seconds, Pinned counters, Py_ssize_t offset, uint32_t frame_max):
        """Learn the sources, set every frame's destination; return (ports, flood): whom the burst concerns."""
        _check_port(source)
        cdef port_counters_t* count = <port_counters_t*>_at(counters, offset, sizeof(port_counters_t))
        with nogil:
            mac_table_classify(&self.t, &frames.b, source, now_seconds, count, frame_max)
        return self.targets

    @property
    def targets(self):
        """(ports, flood) of the burst that was classified last."""
        cdef uint32_t i
        cdef list targets = []
        for i in range(self.t.targets_n):
            targets.append(self.t.targets[i])
        return targets, bool(self.t.flood)
