"""What interposers do to bursts: filters, token buckets, captures, and the parts of a burst that go to one port."""
from libc.string cimport memmove


cdef extern from "layouts.h":
    ctypedef struct bpf_instruction_t:
        uint16_t code
        uint8_t jt, jf
        uint32_t k
    enum: BPF_INSTRUCTIONS_MAX

cdef extern from "bpf.h":
    uint32_t bpf_check(const bpf_instruction_t*, uint32_t) nogil
    uint32_t bpf_run(const bpf_instruction_t*, const burst*, const frame*) nogil
    uint32_t bpf_remove(const bpf_instruction_t*, burst*, bint) nogil

cdef extern from "interpose.h":
    enum: REMOVED_BYTES
    cdef struct pcapng_run:
        uint32_t next, frames
        uint64_t limit
    void interpose_begin(burst*, uint32_t) nogil
    void interpose_view(burst*, const burst*, int32_t, const uint8_t*) nogil
    bint interpose_removed(const burst*, uint8_t*) nogil
    uint32_t interpose_police(burst*, double*, bint, bint) nogil
    uint32_t pcapng_write(const burst*, const bpf_instruction_t*, uint8_t*, uint32_t, uint64_t, uint32_t, pcapng_run*) nogil


def begin_interposing(Burst frames, uint32_t frame_max):
    """Make every frame of a length that the bridge carries present, before it is classified."""
    interpose_begin(&frames.b, frame_max)


def removed_frames(Burst frames):
    """Return the bitmap of the frames that interposers removed, None where there is none."""
    cdef uint8_t bits[REMOVED_BYTES]
    return <bytes>bits[:REMOVED_BYTES] if interpose_removed(&frames.b, bits) else None


cdef class BurstView(Burst):
    """The part of another burst that goes to one port: valid while that burst is."""

    def look(self, Burst frames, int32_t port, bytes removed=None):
        """Show what of `frames` goes to `port`, without the frames of the bitmap `removed`; indices stay the same."""
        cdef const uint8_t* bits = NULL
        if removed is not None:
            if len(removed) != REMOVED_BYTES:
                raise ValueError(f"a bitmap of removed frames has {REMOVED_BYTES} bytes, not {len(removed)}")
            bits = removed
        interpose_view(&self.b, &frames.b, port, bits)

    def copy_all(self, Burst frames, int32_t port):
        """Show every frame of `frames` that is present as one for `port`."""
        cdef uint32_t i
        interpose_view(&self.b, &frames.b, DEST_FLOOD, NULL)
        for i in range(self.b.frames_n):
            self.b.frames[i].dest = port if frames.b.frames[i].dest >= DEST_FLOOD else DEST_DROP


cdef class BpfProgram:
    """A checked classic BPF program."""

    cdef bpf_instruction_t* code
    cdef readonly uint32_t length

    def __cinit__(self, instructions):
        """Take (code, jt, jf, k) each; raises ValueError that names the first instruction that may not be run."""
        self.length = len(instructions)
        if not 0 < len(instructions) <= BPF_INSTRUCTIONS_MAX:
            raise ValueError(f"a BPF program has 1 to {BPF_INSTRUCTIONS_MAX} instructions, not {len(instructions)}")
        self.code = <bpf_instruction_t*>calloc(self.length, sizeof(bpf_instruction_t))
        if self.code is NULL:
            raise MemoryError
        cdef uint32_t i
        for i in range(self.length):
            code, jt, jf, k = instructions[i]
            self.code[i].code, self.code[i].jt, self.code[i].jf, self.code[i].k = code, jt, jf, k
        i = bpf_check(self.code, self.length)
        if i < self.length:
            raise ValueError(f"BPF instruction {i} of {self.length} may not be run: {tuple(instructions[i])}")

    def __dealloc__(self):
        free(self.code)

    def run(self, Burst frames, uint32_t index):
        """Return what the program returns for one frame; 0: no match."""
        if index >= frames.b.frames_n:
            raise IndexError(f"a burst of {frames.b.frames_n} frames has no frame {index}")
        return bpf_run(self.code, &frames.b, &frames.b.frames[index])

    def remove(self, Burst frames, bint matching):
        """Remove the present frames that match, or those that do not; return how many."""
        cdef uint32_t removed
        with nogil:
            removed = bpf_remove(self.code, &frames.b, matching)
        return removed


def police(Burst frames, double tokens, bint bits, bint debt):
    """Take what the present frames cost (1 each, or their bits) from `tokens`; return (tokens left, frames removed).

    What the tokens do not cover is removed; with `debt` nothing is, and they go below zero.
    """
    cdef uint32_t removed = interpose_police(&frames.b, &tokens, bits, debt)
    return tokens, removed


cdef class PcapngBuffer:
    """Blocks of a capture that are on their way to a file; never more than `size_bytes`."""

    cdef uint8_t* bytes
    cdef readonly uint32_t size_bytes
    cdef readonly uint32_t used
    cdef BpfProgram program

    def __cinit__(self, uint32_t size_bytes, BpfProgram program=None):
        self.bytes = <uint8_t*>malloc(size_bytes)
        if self.bytes is NULL:
            raise MemoryError
        self.size_bytes, self.used, self.program = size_bytes, 0, program

    def __dealloc__(self):
        free(self.bytes)

    def put(self, data: bytes):
        """Append bytes as they are; raises ValueError where there is no room."""
        if len(data) > self.size_bytes - self.used:
            raise ValueError(f"{len(data)} bytes do not fit in {self.size_bytes - self.used}")
        memcpy(self.bytes + self.used, <const uint8_t*>data, len(data))
        self.used += len(data)

    def append(self, Burst frames, uint32_t first, uint64_t limit, uint64_t time_ns, uint32_t flags):
        """Append a block for each present frame from `first` on that matches, at most `limit`.

        Returns (index of the frame to go on with, blocks appended): the burst's length where all is done or `limit` reached.
        """
        cdef pcapng_run run = pcapng_run(first, 0, limit)
        cdef const bpf_instruction_t* code = NULL if self.program is None else self.program.code
        with nogil:
            self.used += pcapng_write(&frames.b, code, self.bytes + self.used, self.size_bytes - self.used, time_ns, flags, &run)
        return (frames.b.frames_n if run.frames == limit else run.next), run.frames

    def pending(self):
        """Return what waits to be written; valid until the next call."""
        return <bytes>self.bytes[:self.used]

    def written(self, uint32_t count):
        """Forget the first `count` bytes."""
        if count > self.used:
            raise ValueError(f"{self.used} bytes wait, not {count}")
        self.used -= count
        memmove(self.bytes, self.bytes + count, self.used)
