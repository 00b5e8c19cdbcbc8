"""What vhost-user needs natively: memory that a peer shares by descriptor, and the log of pages written in it."""

cdef extern from "vhost_memory.h":
    cdef struct shared_file:
        uint8_t* at
        size_t bytes
        bint lost
    shared_file* shared_file_map(int, uint64_t, size_t, bint)
    void shared_file_unmap(shared_file*)

cdef extern from "vhost_log.h":
    cdef struct dirty_range:
        uint64_t gpa
    cdef struct dirty_ranges:
        uint32_t n
        dirty_range* range
    void dirty_mark(uint8_t*, uint64_t, uint64_t, uint64_t) nogil
    bint dirty_collect_split(const split_device*, dirty_ranges*) nogil
    bint dirty_collect_packed(const packed_device*, dirty_ranges*) nogil
    void dirty_mark_split(uint8_t*, uint64_t, const split_device*, const dirty_ranges*) nogil
    void dirty_mark_packed(uint8_t*, uint64_t, const packed_device*, const dirty_ranges*) nogil

cdef extern from "Python.h":
    int PyBuffer_FillInfo(Py_buffer*, object, void*, Py_ssize_t, bint, int) except -1
    object PyErr_SetFromErrno(object)


cdef class PeerMemory:
    """A file that a peer shares, mapped; a buffer of `size_bytes`. What the peer cuts off reads as zeros and sets `lost`."""

    cdef shared_file* file
    cdef size_t skipped
    cdef readonly Py_ssize_t size_bytes
    cdef bint writable

    def __cinit__(self, int descriptor, uint64_t offset, Py_ssize_t size_bytes, size_t page_bytes=4096, bint writable=True):
        """Map `size_bytes` from `offset` on in pages of `page_bytes`; raises OSError where the system refuses."""
        if size_bytes <= 0 or page_bytes & (page_bytes - 1) or page_bytes < 4096:
            raise ValueError(f"{size_bytes} bytes in pages of {page_bytes} cannot be mapped")
        self.skipped = offset & (page_bytes - 1)
        cdef size_t whole = (self.skipped + <size_t>size_bytes + page_bytes - 1) & ~(page_bytes - 1)
        self.size_bytes, self.writable = size_bytes, writable
        self.file = shared_file_map(descriptor, offset - self.skipped, whole, writable)
        if self.file is NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.file is not NULL:
            shared_file_unmap(self.file)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.file.at + self.skipped, self.size_bytes, not self.writable, flags)

    @property
    def lost(self):
        """The peer cut the file short, and what was read since is not what it had."""
        return bool(self.file.lost)


cdef class DirtyLog:
    """Marks the pages of guest memory that a device wrote; for live migration."""

    cdef Pinned bits
    cdef dirty_ranges noted

    def __cinit__(self, Pinned bits not None):
        """`bits`: one a page, from guest physical address 0 on."""
        self.bits = bits
        memset(&self.noted, 0, sizeof(dirty_ranges))

    def __dealloc__(self):
        free(self.noted.range)

    def mark(self, uint64_t gpa, uint64_t length):
        """Mark a range; what the log does not cover is left out."""
        dirty_mark(self.bits.data, self.bits.size_bytes, gpa, length)

    def foresee(self, DeviceRing ring not None):
        """Note the buffers that the next delivery may write; call `wrote` after it."""
        cdef bint fit
        if isinstance(ring, SplitDevice):
            fit = dirty_collect_split(&(<SplitDevice>ring).q, &self.noted)
        else:
            fit = dirty_collect_packed(&(<PackedDevice>ring).q, &self.noted)
        if not fit:
            raise MemoryError

    def wrote(self, DeviceRing ring not None):
        """Mark the buffers that were used since `foresee`, before they are published."""
        if isinstance(ring, SplitDevice):
            dirty_mark_split(self.bits.data, self.bits.size_bytes, &(<SplitDevice>ring).q, &self.noted)
        else:
            dirty_mark_packed(self.bits.data, self.bits.size_bytes, &(<PackedDevice>ring).q, &self.noted)


cdef extern from "vhost_journal.h":
    enum: VHOST_USER_JOURNAL_VERSION
    ctypedef struct ring_journal_t:
        uint32_t version, size
        uint64_t desc
        uint32_t base, before, after, chains
    void journal_take(ring_journal_t*, const burst*, uint32_t, uint32_t) nogil
    void journal_done(ring_journal_t*, uint32_t) nogil
    void journal_unfinished(const ring_journal_t*, burst*, uint32_t) nogil


cdef class RingJournal:
    """The record of one ring in memory that outlives this process; a place is an index with the wrap counter in bit 15 (packed)."""

    cdef Pinned page
    cdef ring_journal_t* j

    def __cinit__(self, Pinned page not None, Py_ssize_t offset=0):
        if offset % 8:
            raise ValueError(f"a journal at offset {offset} is not aligned to 8 bytes")
        self.page = page
        self.j = <ring_journal_t*>_at(page, offset, sizeof(ring_journal_t))

    def begin(self, uint64_t desc, uint32_t size, uint32_t base):
        """A ring starts: nothing is under way."""
        self.j.version = 0
        journal_done(self.j, base)
        self.j.desc, self.j.size, self.j.base = desc, size, base
        self.j.version = VHOST_USER_JOURNAL_VERSION

    def knows(self, uint64_t desc, uint32_t size, uint32_t base):
        """Say whether what is recorded is of this ring since that start."""
        cdef ring_journal_t* j = self.j
        return j.version == VHOST_USER_JOURNAL_VERSION and j.desc == desc and j.size == size and j.base == base

    def take(self, Burst taken not None, uint32_t before, uint32_t after):
        """A burst was fetched and is about to be passed on."""
        journal_take(self.j, &taken.b, before, after)

    def done(self, uint32_t position):
        """Everything before `position` is used."""
        journal_done(self.j, position)

    def unfinished(self, Burst to not None, uint32_t size):
        """Fill `to` with what a ring of `size` is to be given back of the burst under way; return the places before and behind it."""
        journal_unfinished(self.j, &to.b, size)
        return self.j.before, self.j.after

    def end(self):
        """The ring was stopped in order: nothing is to be remembered."""
        self.j.version = 0
