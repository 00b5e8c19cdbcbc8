"""Pumps: native work that goes on without Python as long as nothing has to be decided. See pump.h, nic_pump.h."""

cdef extern from "pump.h" nogil:
    enum: SERVERS_MAX
    cdef struct pump_others:
        int (*ready)(void*) noexcept
        void* what
    cdef struct pump_time:
        int64_t end_ns
    pump_time pump_begin(int64_t, int64_t)
    cdef struct serve_ring:
        dma_server_t* server
        const int* active
        uint32_t device
    cdef struct serve_pump:
        serve_ring rings[128]
        uint32_t rings_n
        bell_t* bells[128]
        uint64_t asked[128]
        int32_t telling
    bint serve_pump_run(serve_pump*, bint, pump_time, const pump_others*, uint64_t*)

cdef extern from "nic_pump.h" nogil:
    uint32_t NIC_WAKE_RECEIVER, NIC_WAKE_SENDER
    cdef struct nic_port:
        bell_t* bell
        dma_server_t* server
        bint open
        uint64_t asked
    cdef struct nic_pump:
        nic_engine* e
        nic_port ports[9]
        bar_completer* windows[10]
        uint32_t windows_n
        bell_t* to_receiver
        bell_t* to_sender
        uint64_t receiver_asked, sender_asked
        uint32_t wake, attention
    bint nic_pump_run(nic_pump*, pump_time, const pump_others*)


cdef struct others_table:
    watched** items
    Py_ssize_t count

cdef int _others_ready(void* what) noexcept nogil:
    cdef others_table* others = <others_table*>what
    cdef Py_ssize_t i
    for i in range(others.count):
        if others.items[i].active and others.items[i].ready(others.items[i].what):
            return True
    return False


cdef class Pump:
    """What pumps have in common: what stops them."""

    cdef others_table table
    cdef pump_others others
    cdef list keep

    def __cinit__(self):
        self.others.ready, self.others.what = _others_ready, &self.table
        self.keep = []

    def __dealloc__(self):
        free(self.table.items)

    def stop_for(self, Watched item not None):
        """Have something stop the pump when it is ready."""
        cdef watched** items = <watched**>realloc(self.table.items, (self.table.count + 1) * sizeof(watched*))
        if items is NULL:
            raise MemoryError
        self.table.items = items
        items[self.table.count] = &item.w
        self.table.count += 1
        self.keep.append(item)


cdef class ServePump(Pump):
    """Serves every DMA ring of several devices by turns."""

    cdef serve_pump p

    def add_device(self, Bell bell not None):
        """Add a device, told of what was done by its bell; return its number."""
        cdef uint32_t number = 0
        while number < SERVERS_MAX and self.p.bells[number] is not NULL:
            number += 1
        if number == SERVERS_MAX:
            raise ValueError(f"a pump serves at most {SERVERS_MAX} devices")
        self.p.bells[number] = bell.bell
        self.keep.append(bell)
        return number

    def add(self, uint32_t device, DmaServer server not None):
        """Add a ring of a device and return its number; one that is not active waits."""
        if self.p.rings_n == SERVERS_MAX:
            raise ValueError(f"a pump serves at most {SERVERS_MAX} rings")
        self.p.rings[self.p.rings_n] = serve_ring(&server.server, <const int*>&server.w.active, device)
        self.p.rings_n += 1
        self.keep.append(server)
        return self.p.rings_n - 1

    def asked(self, uint32_t device):
        """Return how often a device's bell was rung."""
        return self.p.asked[device]

    def run(self, bint fast, int64_t budget_ns, int64_t idle_ns):
        """Serve until something has to be decided, nothing comes for `idle_ns`, or the budget is spent; `fast` as `DmaServer.serve`.

        Return (whether anything moved, the numbers of devices that sleep and are to be woken, the ring of whose server `told` is to be
        told, or None).
        """
        cdef uint64_t wake[2]
        cdef bint moved
        cdef uint32_t i
        wake[0] = wake[1] = 0
        with nogil:
            moved = serve_pump_run(&self.p, fast, pump_begin(budget_ns, idle_ns), &self.others, wake)
        telling = self.p.telling if self.p.telling >= 0 else None
        if not wake[0] and not wake[1]:
            return bool(moved), (), telling
        return bool(moved), tuple([i for i in range(<uint32_t>SERVERS_MAX) if wake[i // 64] >> (i % 64) & 1]), telling


cdef class NicPump(Pump):
    """An engine with its doorbells, DMA rings and wire."""

    cdef nic_pump p

    def __init__(self, NicEngine engine not None):
        self.p.e = engine.e
        self.keep.append(engine)

    def add_window(self, BarCompleter window not None):
        """Take tail registers that are written through a window."""
        if self.p.windows_n == NIC_FUNCTIONS + 1:
            raise ValueError(f"a NIC has at most {NIC_FUNCTIONS + 1} windows")
        self.p.windows[self.p.windows_n] = &window.c
        self.p.windows_n += 1
        self.keep.append(window)

    def add_port(self, uint32_t function, Bell bell not None, DmaServer server=None):
        """Have a function's requests shown to the IOMMU by its bell, or served here."""
        if function >= NIC_FUNCTIONS:
            raise ValueError(f"there is no function {function}")
        self.p.ports[function].bell = bell.bell
        self.p.ports[function].server = NULL if server is None else &server.server
        self.keep += [bell, server]

    def add_wire(self, Bell to_receiver not None, Bell to_sender not None):
        """Ring who receives what is sent, and who waits for room on the wire."""
        self.p.to_receiver, self.p.to_sender = to_receiver.bell, to_sender.bell
        self.keep += [to_receiver, to_sender]

    def open_port(self, uint32_t function, bint open):
        """Say whether a function's own server may go on."""
        self.p.ports[function % NIC_FUNCTIONS].open = open

    def run(self, int64_t budget_ns, int64_t idle_ns):
        """Go round until there is something to decide, nothing moves for `idle_ns`, or the budget is spent; say whether anything moved."""
        cdef bint moved
        with nogil:
            moved = nic_pump_run(&self.p, pump_begin(budget_ns, idle_ns), &self.others)
        return moved

    def take_wakes(self):
        """Return whose IOMMU is to be woken (functions, a bit mask), whether the wire's receiver is, and whether its sender is."""
        cdef uint32_t wake = self.p.wake
        self.p.wake = 0
        return wake & <uint32_t>((1 << NIC_FUNCTIONS) - 1), bool(wake & NIC_WAKE_RECEIVER), bool(wake & NIC_WAKE_SENDER)

    def take_attention(self):
        """Return the functions whose server waits for a decision, a bit mask."""
        cdef uint32_t attention = self.p.attention
        self.p.attention = 0
        return attention

    @property
    def asked(self):
        """Return how often the IOMMU's bell was rung, that of the wire's receiver, and that of its sender."""
        cdef uint64_t total = 0
        cdef uint32_t i
        for i in range(<uint32_t>NIC_FUNCTIONS):
            total += self.p.ports[i].asked
        return total, self.p.receiver_asked, self.p.sender_asked
