"""Bells, and watching many things at once: what has work, and asking all of them for a message before sleeping."""

cdef extern from "bell.h":
    ctypedef struct bell_t:
        uint64_t rung
        uint32_t armed
        uint64_t sent
    bint bell_ring(bell_t*) nogil
    void bell_arm(bell_t*) nogil
    void bell_disarm(bell_t*) nogil
    void full_fence() nogil

cdef extern from *:
    """
    #define load_acquire_u16(p) __atomic_load_n((const uint16_t*)(p), __ATOMIC_ACQUIRE)
    #define store_release_u16(p, v) __atomic_store_n((uint16_t*)(p), (v), __ATOMIC_RELEASE)
    #define load_acquire_u32(p) __atomic_load_n((const uint32_t*)(p), __ATOMIC_ACQUIRE)
    #define load_acquire_u64(p) __atomic_load_n((const uint64_t*)(p), __ATOMIC_ACQUIRE)
    #define store_release_u32(p, v) __atomic_store_n((uint32_t*)(p), (v), __ATOMIC_RELEASE)
    #define store_release_u64(p, v) __atomic_store_n((uint64_t*)(p), (v), __ATOMIC_RELEASE)
    #define fetch_or_u64(p, v) __atomic_fetch_or((uint64_t*)(p), (v), __ATOMIC_ACQ_REL)
    #define fetch_and_u64(p, v) __atomic_fetch_and((uint64_t*)(p), (v), __ATOMIC_ACQ_REL)
    """
    uint16_t load_acquire_u16(const void*) nogil
    void store_release_u16(void*, uint16_t) nogil
    uint32_t load_acquire_u32(const void*) nogil
    uint64_t load_acquire_u64(const void*) nogil
    void store_release_u32(void*, uint32_t) nogil
    void store_release_u64(void*, uint64_t) nogil
    uint64_t fetch_or_u64(void*, uint64_t) nogil
    uint64_t fetch_and_u64(void*, uint64_t) nogil

ctypedef bint (*watch_fn)(void*) noexcept nogil
ctypedef void (*unwatch_fn)(void*) noexcept nogil

cdef struct watched:
    void* what
    watch_fn ready
    watch_fn arm
    unwatch_fn disarm
    bint active


cdef uint8_t* _at(Pinned page, Py_ssize_t offset, Py_ssize_t length) except NULL:
    if offset < 0 or offset + length > page.size_bytes:
        raise ValueError(f"{length} bytes at offset {offset} do not fit in {page.size_bytes}")
    return page.data + offset


cdef class SharedWords:
    """Ordered access to aligned words of a shared page."""

    cdef Pinned page

    def __init__(self, Pinned page):
        self.page = page

    def store16(self, Py_ssize_t offset, uint16_t value):
        store_release_u16(_at(self.page, offset, 2), value)

    def load32(self, Py_ssize_t offset):
        return load_acquire_u32(_at(self.page, offset, 4))

    def load64(self, Py_ssize_t offset):
        return load_acquire_u64(_at(self.page, offset, 8))

    def store32(self, Py_ssize_t offset, uint32_t value):
        store_release_u32(_at(self.page, offset, 4), value)

    def store64(self, Py_ssize_t offset, uint64_t value):
        store_release_u64(_at(self.page, offset, 8), value)

    def set_bits64(self, Py_ssize_t offset, uint64_t bits):
        """Set bits atomically; return the word as it was."""
        return fetch_or_u64(_at(self.page, offset, 8), bits)

    def clear_bits64(self, Py_ssize_t offset, uint64_t bits):
        """Clear bits atomically; return the word as it was."""
        return fetch_and_u64(_at(self.page, offset, 8), ~bits)


cdef class Bell:
    """One direction of a doorbell or interrupt; see bell.h for why no wake-up is lost."""

    cdef Pinned page
    cdef bell_t* bell

    def __init__(self, Pinned page, Py_ssize_t offset=0):
        self.page = page
        self.bell = <bell_t*>_at(page, offset, sizeof(bell_t))

    def ring(self):
        """Ring; True: the other side sleeps and one message must be sent."""
        return bell_ring(self.bell)

    @property
    def rung(self):
        return load_acquire_u64(&self.bell.rung)

    @property
    def sent(self):
        return load_acquire_u64(&self.bell.sent)

    @property
    def armed(self):
        return load_acquire_u32(&self.bell.armed) != 0


cdef bint _word_ready(void* what) noexcept nogil:
    cdef WordState* w = <WordState*>what
    return load_acquire_u32(w.word) != w.seen

cdef bint _word_arm(void* what) noexcept nogil:
    full_fence()
    return _word_ready(what)

cdef void _nothing(void* what) noexcept nogil:
    pass

cdef struct WordState:
    uint32_t* word
    uint32_t seen


cdef class Watched:
    """Something that can be watched: it knows whether it has work and how to ask for a message."""

    cdef watched w

    @property
    def active(self):
        """Only an active item is looked at and armed by its `Watch`."""
        return self.w.active

    @active.setter
    def active(self, bint value):
        self.w.active = value

    @property
    def ready(self):
        """There is work."""
        return bool(self.w.ready(self.w.what))

    def arm(self):
        """Ask for a message; True: there is work already."""
        return bool(self.w.arm(self.w.what))

    def disarm(self):
        self.w.disarm(self.w.what)


cdef class WordChanges(Watched):
    """A 32-bit word that another process counts up; ready while it differs from `seen`."""

    cdef WordState state
    cdef Pinned page

    def __init__(self, Pinned page, Py_ssize_t offset):
        self.page = page
        self.state.word = <uint32_t*>_at(page, offset, 4)
        self.state.seen = load_acquire_u32(self.state.word)
        self.w = watched(&self.state, _word_ready, _word_arm, _nothing, True)

    def take(self):
        """Return the word and regard it as seen."""
        self.state.seen = load_acquire_u32(self.state.word)
        return self.state.seen


cdef int _add_bits(list found, uint64_t word, uint32_t base) except -1:
    cdef uint32_t low
    for low in range(64):
        if word >> low & 1:
            found.append(base + low)
    return 0


cdef extern from "clock.h" nogil:
    int64_t monotonic_ns()

cdef extern from "<sched.h>" nogil:
    int sched_yield()


cdef class Watch:
    """A set of watched things and the bells through which their messages come."""

    cdef list items, keys, bells
    cdef watched** table
    """What the items point at, in their order: looked through without Python."""
    cdef Py_ssize_t count

    def __init__(self):
        self.items, self.keys, self.bells = [], [], []

    def __dealloc__(self):
        free(self.table)

    def __class_getitem__(cls, item):
        return cls

    cdef int _retable(self) except -1:
        cdef Py_ssize_t i
        cdef watched** table = <watched**>realloc(self.table, (len(self.items) + 1) * sizeof(watched*))
        if table is NULL:
            raise MemoryError
        self.table, self.count = table, len(self.items)
        for i in range(self.count):
            table[i] = &(<Watched>self.items[i]).w
        return 0

    def add(self, Watched item not None, key):
        """Watch `item`; `ready` reports it as `key`."""
        self.items.append(item)
        self.keys.append(key)
        self._retable()

    def add_bell(self, Bell bell not None):
        """Arm this bell, too, before sleeping."""
        self.bells.append(bell)

    def discard(self, Watched item):
        """Stop watching an item; nothing happens where it is not watched."""
        cdef Py_ssize_t i
        for i in range(len(self.items)):
            if self.items[i] is item:
                del self.items[i]
                del self.keys[i]
                self._retable()
                return

    cdef bint _any_ready(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.table[i].active and self.table[i].ready(self.table[i].what):
                return True
        return False

    def ready(self):
        """Return the keys of what has work, a list."""
        cdef list found = []
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.table[i].active and self.table[i].ready(self.table[i].what):
                found.append(self.keys[i])
        return found

    def pause(self, int64_t budget_ns):
        """Yield the processor once, and on until something is ready or the time is over; True: something is ready."""
        cdef int64_t end
        cdef bint ready
        with nogil:
            end = monotonic_ns() + budget_ns
            while True:
                sched_yield()
                ready = self._any_ready()
                if ready or monotonic_ns() >= end:
                    break
        return ready

    def arm_bells(self):
        """Arm the bells alone; whoever does this looks once more at what it waits for before it blocks."""
        cdef Bell bell
        for bell in self.bells:
            bell_arm(bell.bell)
        full_fence()

    def disarm_bells(self):
        cdef Bell bell
        for bell in self.bells:
            bell_disarm(bell.bell)

    def arm(self):
        """Ask everything for a message, then look once more; True: sleep now, False: there is work already."""
        cdef Py_ssize_t i
        cdef bint work = False
        self.arm_bells()
        for i in range(self.count):
            if self.table[i].active and self.table[i].arm(self.table[i].what):
                work = True
        if work:
            self.disarm()
        return not work

    def disarm(self):
        """Awake again: no more messages wanted."""
        cdef Py_ssize_t i
        self.disarm_bells()
        for i in range(self.count):
            if self.table[i].active:
                self.table[i].disarm(self.table[i].what)
