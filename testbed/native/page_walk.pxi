"""Host physical memory and the walks over it: `HostMap`, `Stage2`, `walk_nested`.

Loads and stores whose address or table another process changes at the same moment are safe: descriptors are read whole.
A `HostMap` is filled before it is walked; adding a region while another thread walks is not allowed. Answers are built by statements, never
by a conditional expression: that would give fault words the type of an address.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize


cdef extern from "page_walk.h" nogil:
    ctypedef struct host_map_t:
        pass
    ctypedef struct walk_stage_t:
        uint64_t root
        uint8_t input_bits, start_level, output_bits, stage
        bint access_flag_faults, hierarchical
    ctypedef struct walk_result_t:
        uint64_t output, ipa, fetch
        uint8_t permissions, block_shift, stage1_shift
        bint is_global "global"
    int host_map_add(host_map_t*, uint64_t, uint64_t, uint8_t*, bint)
    void host_map_free(host_map_t*)
    uint8_t* host_map_pointer(const host_map_t*, uint64_t, uint64_t, bint)
    int32_t nested_walk(const host_map_t*, const walk_stage_t*, const walk_stage_t*, uint64_t, uint32_t, walk_result_t*)
    int32_t stage2_walk(const host_map_t*, const walk_stage_t*, uint64_t, uint32_t, walk_result_t*)
    uint8_t* stage2_resolve(const host_map_t*, const walk_stage_t*, uint64_t, uint64_t, uint32_t, int32_t*)
    int32_t stage2_copy(const host_map_t*, const walk_stage_t*, uint64_t, uint8_t*, uint64_t, bint)
    uint64_t host_load(const uint8_t*, uint32_t)
    void host_store(uint8_t*, uint32_t, uint64_t)
    int32_t PAGE_TABLE_FAULT_MASK
    int32_t PAGE_TABLE_DFSC_ALIGNMENT
    int32_t PAGE_TABLE_DFSC_EXTERNAL
    uint32_t PAGE_TABLE_PERMISSION_READ
    uint32_t PAGE_TABLE_PERMISSION_WRITE
    uint8_t PAGE_TABLE_INPUT_BITS_MAX
    uint8_t PAGE_TABLE_LAST_LEVEL
    uint8_t PAGE_TABLE_GRANULE_SHIFT
    uint8_t PAGE_TABLE_INDEX_BITS


cdef int _check_size(uint32_t size) except -1:
    if size != 1 and size != 2 and size != 4 and size != 8:
        raise ValueError(f"an access has 1, 2, 4 or 8 bytes, not {size}")
    return 0


cdef int _stage_from(tuple row, int number, walk_stage_t* out) except -1:
    """Take (root, input_bits, start_level, output_bits, access_flag_faults, hierarchical), refusing what no walk can be made of."""
    cdef int shift
    out.root, out.input_bits, out.start_level, out.output_bits, out.access_flag_faults, out.hierarchical = row
    out.stage = number
    shift = PAGE_TABLE_GRANULE_SHIFT + PAGE_TABLE_INDEX_BITS * (PAGE_TABLE_LAST_LEVEL - out.start_level)
    if out.start_level > PAGE_TABLE_LAST_LEVEL or out.output_bits > PAGE_TABLE_INPUT_BITS_MAX:
        raise ValueError(f"a walk starts at level 0 to 3 and puts out 48 bits at most, not {row}")
    if not shift < out.input_bits <= min(shift + 13, PAGE_TABLE_INPUT_BITS_MAX):
        raise ValueError(f"{out.input_bits} input bits cannot be resolved from level {out.start_level}")
    return 0


cdef class HostMap:
    """Host physical address space of this process: disjoint regions, each a pinned buffer at a host physical base."""

    cdef host_map_t map
    cdef list pins

    def __cinit__(self):
        self.pins = []

    def __dealloc__(self):
        host_map_free(&self.map)

    def add(self, uint64_t hpa, Pinned buffer not None, bint writable=True):
        """Add a region; ValueError where it is empty, unaligned, overlaps another or `buffer` cannot be written as asked."""
        if (hpa | <uint64_t>buffer.data) & 7:
            raise ValueError(f"a region must begin at a multiple of 8, not {hpa:#x}")
        if writable and not buffer.writable:
            raise ValueError(f"the buffer at {hpa:#x} cannot be written")
        if host_map_add(&self.map, hpa, buffer.size_bytes, buffer.data, writable):
            raise ValueError(f"{buffer.size_bytes:#x} bytes at {hpa:#x} are empty or overlap another region")
        self.pins.append(buffer)

    def load(self, uint64_t hpa, uint32_t size_bytes):
        """Return the value at a host physical address, or a negative fault word."""
        _check_size(size_bytes)
        cdef uint8_t* host = host_map_pointer(&self.map, hpa, size_bytes, False)
        if host == NULL:
            return -(PAGE_TABLE_FAULT_MASK | PAGE_TABLE_DFSC_EXTERNAL)
        return host_load(host, size_bytes)

    def store(self, uint64_t hpa, uint32_t size_bytes, uint64_t value):
        """Store a value; return 0 or a negative fault word."""
        _check_size(size_bytes)
        cdef uint8_t* host = host_map_pointer(&self.map, hpa, size_bytes, True)
        if host == NULL:
            return -(PAGE_TABLE_FAULT_MASK | PAGE_TABLE_DFSC_EXTERNAL)
        host_store(host, size_bytes, value)
        return 0


cdef class Stage2:
    """One guest's stage-2 translation: what a vCPU's MMU does with every access.

    Every method takes guest physical addresses and answers a refused access with a negative fault word (testbed.spec.page_table FAULT).
    A load or store may be unaligned but not cross a 4 KiB border: that is an alignment fault.
    """

    cdef HostMap host_map
    cdef walk_stage_t stage

    def __cinit__(self, HostMap host_map not None, uint64_t root_hpa, int input_bits=48, int start_level=0, int output_bits=48):
        self.host_map = host_map
        _stage_from((root_hpa, input_bits, start_level, output_bits, True, True), 2, &self.stage)

    @property
    def root_hpa(self) -> int:
        return self.stage.root

    def translate(self, uint64_t gpa, bint write=False):
        """Return the host physical address, or a negative fault word."""
        cdef walk_result_t result
        cdef int32_t fault
        cdef uint32_t needed = PAGE_TABLE_PERMISSION_WRITE if write else PAGE_TABLE_PERMISSION_READ
        with nogil:
            fault = stage2_walk(&self.host_map.map, &self.stage, gpa, needed, &result)
        if fault:
            return fault
        return result.output

    def walk(self, uint64_t gpa, uint32_t needed=0):
        """Return (fault or 0, host physical address, permissions, block bytes)."""
        cdef walk_result_t result
        cdef int32_t fault = stage2_walk(&self.host_map.map, &self.stage, gpa, needed, &result)
        if fault:
            return fault, 0, 0, 0
        return 0, result.output, result.permissions, 1 << result.block_shift

    cdef uint8_t* pointer(self, uint64_t gpa, uint64_t length, uint32_t needed, int32_t* fault) noexcept nogil:
        return stage2_resolve(&self.host_map.map, &self.stage, gpa, length, needed, fault)

    def resolve(self, uint64_t gpa, uint64_t length_bytes, bint write=False):
        """Return the host pointer of a range that is one piece of host memory, or a negative fault word."""
        cdef int32_t fault = 0
        cdef uint8_t* host
        cdef uint32_t needed = PAGE_TABLE_PERMISSION_WRITE if write else PAGE_TABLE_PERMISSION_READ
        with nogil:
            host = self.pointer(gpa, length_bytes, needed, &fault)
        if host == NULL:
            return fault
        return <uint64_t>host

    def load(self, uint64_t gpa, uint32_t size_bytes):
        """Return the value at a guest physical address, or a negative fault word."""
        cdef int32_t fault = 0
        _check_size(size_bytes)
        if (gpa & 4095) + size_bytes > 4096:
            return -(PAGE_TABLE_FAULT_MASK | PAGE_TABLE_DFSC_ALIGNMENT)
        cdef uint8_t* host = self.pointer(gpa, size_bytes, PAGE_TABLE_PERMISSION_READ, &fault)
        if host == NULL:
            return fault
        return host_load(host, size_bytes)

    def store(self, uint64_t gpa, uint32_t size_bytes, uint64_t value):
        """Store a value; return 0 or a negative fault word."""
        cdef int32_t fault = 0
        _check_size(size_bytes)
        if (gpa & 4095) + size_bytes > 4096:
            return -(PAGE_TABLE_FAULT_MASK | PAGE_TABLE_DFSC_ALIGNMENT)
        cdef uint8_t* host = self.pointer(gpa, size_bytes, PAGE_TABLE_PERMISSION_WRITE, &fault)
        if host == NULL:
            return fault
        host_store(host, size_bytes, value)
        return 0

    def read(self, uint64_t gpa, Py_ssize_t length_bytes):
        """Return bytes of guest memory, or a negative fault word where any of them may not be read."""
        cdef int32_t fault
        cdef bytes target
        cdef uint8_t* local
        # Looked at before anything is allocated: the length may be a guest's invention.
        with nogil:
            fault = stage2_copy(&self.host_map.map, &self.stage, gpa, NULL, length_bytes, False)
        if fault:
            return fault
        target = PyBytes_FromStringAndSize(NULL, length_bytes)
        local = <uint8_t*>PyBytes_AS_STRING(target)
        with nogil:
            fault = stage2_copy(&self.host_map.map, &self.stage, gpa, local, length_bytes, False)
        return fault if fault else target

    def write(self, uint64_t gpa, data):
        """Write a bytes-like object into guest memory, whole or not at all; return 0 or a negative fault word."""
        cdef int32_t fault
        cdef Py_buffer source
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
        with nogil:
            fault = stage2_copy(&self.host_map.map, &self.stage, gpa, <uint8_t*>source.buf, source.len, True)
        PyBuffer_Release(&source)
        return fault


def walk_nested(HostMap host_map not None, stage1, stage2, uint64_t address, uint32_t needed=0):
    """Walk one or both stages, each (root, input_bits, start_level, output_bits, access_flag_faults, hierarchical) or None.

    Returns (fault or 0, output address, permissions, block bytes, global, bytes of stage 1's leaf where both stages translate, address that
    stage 2 refused, address of a descriptor that could not be read).
    """
    cdef walk_stage_t first, second
    cdef walk_result_t result
    cdef int32_t fault
    cdef bint has_first = stage1 is not None, has_second = stage2 is not None
    if has_first:
        _stage_from(tuple(stage1), 1, &first)
    if has_second:
        _stage_from(tuple(stage2), 2, &second)
    if not has_first and not has_second:
        raise ValueError("a walk needs stage 1, stage 2 or both")
    with nogil:
        fault = nested_walk(&host_map.map, &first if has_first else NULL, &second if has_second else NULL, address, needed, &result)
    if fault:
        return fault, 0, 0, 0, False, 0, result.ipa, result.fetch
    stage1_bytes = 1 << result.stage1_shift if result.stage1_shift else 0
    return 0, result.output, result.permissions, 1 << result.block_shift, bool(result.is_global), stage1_bytes, 0, 0
