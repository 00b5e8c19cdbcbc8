"""Interrupts on their way from the ITS: bits of vCPUs' pages, virtual pending tables and host processors, and the cache that finds them."""

cdef extern from "vlpi.h":
    enum: VPE_DELIVERED
    enum: VPE_WAKE
    enum: VPE_ABSENT
    ctypedef struct vpe_port_t:
        vcpu_page_t* page
        uint64_t* table
        uint32_t processor
    int vpe_post(vpe_port_t*, uint32_t) nogil
    bint vpe_take(vpe_port_t*, uint32_t) nogil
    bint vpe_is_pending(const vpe_port_t*, uint32_t) nogil
    bint vpe_enter(vpe_port_t*, uint32_t) nogil
    bint vpe_leave(vpe_port_t*) nogil
    bint vpe_refresh(vpe_port_t*) nogil
    bint vpe_config_changed(vpe_port_t*) nogil

cdef extern from "its_cache.h":
    enum: ITS_NONE
    enum: ITS_PHYSICAL
    enum: ITS_VIRTUAL
    enum: ITS_MISS
    enum: ITS_RUNG
    enum: LPI_HOST_LPIS
    uint32_t LPI_INTID_NONE
    ctypedef struct lpi_page_t:
        uint64_t* raised
    ctypedef struct its_entry_t:
        uint32_t device
        uint32_t event
        uint32_t n
        uint32_t doorbell
        uint16_t target
        uint8_t kind
        uint32_t processor
        lpi_page_t* lpis
        vpe_port_t* vpe
    ctypedef struct its_cache_t:
        its_entry_t* entries
        uint32_t sets
        uint64_t hits
        uint64_t misses
        uint64_t delivered
        uint64_t wakes
        uint64_t absent
    int its_cache_init(its_cache_t*, uint32_t)
    void its_cache_free(its_cache_t*)
    its_entry_t* its_cache_slot(its_cache_t*, uint32_t, uint32_t)
    int its_post(its_cache_t*, uint32_t, uint32_t, its_entry_t**) nogil
    bint lpi_raise(lpi_page_t*, uint32_t) nogil

POST_DELIVERED = VPE_DELIVERED
POST_WAKE = VPE_WAKE
POST_ABSENT = VPE_ABSENT
POST_MISS = ITS_MISS


cdef uint32_t _below(uint32_t n, uint32_t limit) except? 0xFFFFFFFF:
    if n >= limit:
        raise ValueError(f"there are {limit} LPIs, no number {n}")
    return n


cdef class VpePort:
    """Where the virtual LPIs of one vPE become pending: the vCPU's page while it is resident, else its virtual pending table.

    `table` begins at the words of LPI 8192. LPIs are numbered from there.
    """

    cdef vpe_port_t port
    cdef Pinned page
    cdef Pinned table

    def __init__(self, Pinned page not None, Pinned table not None, uint32_t processor=0):
        self.page, self.table = page, table
        self.port.page = <vcpu_page_t*>_at(page, 0, sizeof(vcpu_page_t))
        self.port.table = <uint64_t*>_at(table, 0, LPI_VLPI_WORDS * 8)
        self.port.processor = processor

    @property
    def processor(self):
        """The host processor that the ITS takes the vPE to be on."""
        return self.port.processor

    def move(self, uint32_t processor):
        """Take the vPE to be on another processor; True as with `enter`: it may have been there already."""
        self.port.processor = processor
        return bool(vpe_refresh(&self.port))

    def post(self, uint32_t n):
        """Make a virtual LPI pending; return POST_DELIVERED, POST_WAKE (send one message) or POST_ABSENT (ring the doorbell)."""
        return vpe_post(&self.port, _below(n, LPI_VLPIS))

    def take(self, uint32_t n):
        """Take a virtual LPI back; True: it was pending."""
        return bool(vpe_take(&self.port, _below(n, LPI_VLPIS)))

    def is_pending(self, uint32_t n):
        return bool(vpe_is_pending(&self.port, _below(n, LPI_VLPIS)))

    def enter(self, uint32_t processor):
        """Schedule the vPE on a processor; True: there is something for it and it sleeps, send one message."""
        cdef bint wake
        with nogil:
            wake = vpe_enter(&self.port, processor)
        return bool(wake)

    def leave(self):
        """Schedule it out; True: something is pending."""
        cdef bint pending
        with nogil:
            pending = vpe_leave(&self.port)
        return bool(pending)

    def config_changed(self):
        """Tell the vCPU that virtual LPIs were configured anew; True: it sleeps, send one message."""
        return bool(vpe_config_changed(&self.port))


cdef class LpiPort:
    """Where the LPIs of one host processor are raised, numbered from 8192."""

    cdef lpi_page_t* lpis
    cdef Pinned page

    def __init__(self, Pinned page not None):
        self.page = page
        self.lpis = <lpi_page_t*>_at(page, 0, sizeof(lpi_page_t))

    def raise_lpi(self, uint32_t n):
        """Raise one; True: the processor sleeps, send one message."""
        return bool(lpi_raise(self.lpis, _below(n, LPI_HOST_LPIS)))

    def take(self, uint32_t n):
        """Take one back; True: it was raised."""
        cdef uint64_t bit = <uint64_t>1 << (_below(n, LPI_HOST_LPIS) & 63)
        return fetch_and_u64(&self.lpis.raised[n >> 6], ~bit) & bit != 0

    def take_all(self):
        """Take every raised LPI; return their numbers, lowest first."""
        cdef uint32_t i
        cdef uint64_t word
        found = []
        for i in range(LPI_HOST_LPIS // 64):
            if load_acquire_u64(&self.lpis.raised[i]):
                word = fetch_and_u64(&self.lpis.raised[i], 0)
                _add_bits(found, word, 64 * i)
        return found


cdef tuple _told(its_entry_t* entry, int outcome):
    """Return (outcome, whom it concerns, doorbell): a vPE, or with doorbell -1 a host processor."""
    if entry.kind == ITS_VIRTUAL and outcome != ITS_RUNG:
        return outcome, entry.target, entry.doorbell
    return VPE_WAKE, entry.processor, -1


cdef class ItsCache:
    """Cached translations of the ITS: an event that is in it needs no table."""

    cdef its_cache_t cache
    cdef dict ports
    cdef readonly int entries

    def __cinit__(self, int entries=4096):
        if entries < 4 or entries & (entries - 1):
            raise ValueError(f"entries must be a power of two from 4 on, not {entries}")
        if its_cache_init(&self.cache, entries):
            raise MemoryError
        self.entries, self.ports = entries, {}

    def __dealloc__(self):
        its_cache_free(&self.cache)

    @property
    def counts(self):
        """Hits, misses, delivered, messages asked for, events of vPEs that were not resident."""
        return self.cache.hits, self.cache.misses, self.cache.delivered, self.cache.wakes, self.cache.absent

    def fill_physical(self, uint32_t device, uint32_t event, uint16_t icid, uint32_t n, LpiPort port not None, uint32_t processor):
        """Remember an event of an enabled physical LPI."""
        _below(n, LPI_HOST_LPIS)
        self._keep(ITS_PHYSICAL, processor, port)
        cdef its_entry_t* slot = its_cache_slot(&self.cache, device, event)
        slot[0] = its_entry_t(device, event, n, 0, icid, ITS_PHYSICAL, processor, port.lpis, NULL)

    def fill_virtual(self, uint32_t device, uint32_t event, uint16_t vpe, uint32_t n, VpePort port not None, uint32_t doorbell,
                     LpiPort processor=None, uint32_t number=0):
        """Remember an event of a virtual LPI; an enabled doorbell is raised at host processor `number`, whose port is `processor`."""
        _below(n, LPI_VLPIS)
        self._keep(ITS_VIRTUAL, vpe, port)
        cdef lpi_page_t* lpis = NULL
        if processor is not None:
            _below(doorbell - LPI_LPI_FIRST, LPI_HOST_LPIS)
            self._keep(ITS_PHYSICAL, number, processor)
            lpis = processor.lpis
        cdef its_entry_t* slot = its_cache_slot(&self.cache, device, event)
        slot[0] = its_entry_t(device, event, n, doorbell, vpe, ITS_VIRTUAL, number, lpis, &port.port)

    def post(self, uint32_t device, uint32_t event):
        """Signal an event that is cached; return (outcome, whom it concerns, doorbell).

        POST_WAKE concerns a vPE, or with doorbell -1 a host processor; POST_ABSENT a vPE.
        """
        cdef its_entry_t* entry = NULL
        cdef int outcome = its_post(&self.cache, device, event, &entry)
        if outcome == VPE_DELIVERED or outcome == ITS_MISS:
            return outcome
        return _told(entry, outcome)

    def drop_event(self, uint32_t device, uint32_t event):
        """Forget one event."""
        self._drop(ITS_NONE, device, event, -1)

    def drop_device(self, uint32_t device):
        """Forget every event of a device."""
        self._drop(ITS_NONE, device, -1, -1)

    def drop_collection(self, uint16_t icid):
        """Forget every event of a collection."""
        self._drop(ITS_PHYSICAL, -1, -1, icid)

    def drop_physical(self):
        """Forget every event of a physical LPI, and those of virtual ones that have a doorbell."""
        cdef int i
        for i in range(self.entries):
            if self.cache.entries[i].kind == ITS_PHYSICAL or self.cache.entries[i].doorbell != LPI_INTID_NONE:
                self.cache.entries[i].kind = ITS_NONE

    def drop_vpe(self, uint16_t vpe):
        """Forget every event of a vPE, and its port."""
        self._drop(ITS_VIRTUAL, -1, -1, vpe)
        self.ports.pop((ITS_VIRTUAL, vpe), None)

    def drop_all(self):
        """Forget everything."""
        self._drop(ITS_NONE, -1, -1, -1)
        self.ports.clear()

    def __len__(self):
        cdef int i, used = 0
        for i in range(self.entries):
            used += self.cache.entries[i].kind != ITS_NONE
        return used

    cdef _drop(self, int kind, int64_t device, int64_t event, int64_t target):
        """Forget entries; ITS_NONE and -1 match all."""
        cdef int i
        cdef its_entry_t* entry
        for i in range(self.entries):
            entry = &self.cache.entries[i]
            if ((kind == ITS_NONE or entry.kind == kind) and (device < 0 or entry.device == device)
                    and (event < 0 or entry.event == event) and (target < 0 or entry.target == target)):
                entry.kind = ITS_NONE

    cdef _keep(self, int kind, int owner, port):
        """Keep a port alive while entries point into it; entries of another port of the same owner are stale."""
        if self.ports.get((kind, owner), port) is not port:
            self.drop_all()
        self.ports[kind, owner] = port
