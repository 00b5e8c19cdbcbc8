"""Bursts and guest memory as native code sees them."""

cdef extern from "burst.h":
    enum: BURST_FRAMES, BURST_SEGMENTS, PASS_FRAMES, DEST_FLOOD, DEST_DROP, DEST_REMOVED
    cdef struct segment:
        uint8_t* host
        uint32_t len
        uint32_t id
    cdef struct frame:
        uint32_t first_segment
        uint16_t segments
        uint16_t descriptors
        uint32_t len
        uint32_t id
        int32_t dest
        uint8_t flags
        uint8_t gso_type
        uint16_t hdr_len, gso_size, csum_start, csum_offset
    cdef struct burst:
        uint32_t frames_n, segments_n
        frame frames[256]
        segment segments[2048]
    uint32_t frame_read(const burst*, const frame*, uint32_t, uint8_t*, uint32_t) nogil

cdef extern from "regions.h":
    enum: REGIONS_MAX
    cdef struct region:
        uint64_t gpa, size
        uint8_t* host
        uint64_t hpa
    cdef struct regions:
        uint32_t n
        region r[64]
    uint8_t* regions_resolve(const regions*, uint64_t, uint64_t) nogil

cdef extern from "layouts.h":
    ctypedef struct port_counters_t:
        uint64_t kicks
        uint64_t calls
        uint64_t dropped_stalled
        uint64_t dropped_link_down


cdef class Burst:
    """At most 256 frames in memory that their source owns until the burst is completed."""

    cdef burst b

    def __cinit__(self):
        self.b.frames_n = self.b.segments_n = 0

    def __len__(self):
        return self.b.frames_n

    def clear(self):
        self.b.frames_n = self.b.segments_n = 0

    def truncate(self, uint32_t frames):
        """Keep the first `frames` frames only."""
        if frames < self.b.frames_n:
            self.b.frames_n = frames

    def frame_bytes(self, uint32_t index):
        """Return a copy of one frame: for taps and tests, not for a data path."""
        if index >= self.b.frames_n:
            raise IndexError(f"a burst of {self.b.frames_n} frames has no frame {index}")
        cdef bytearray out = bytearray(self.b.frames[index].len)
        cdef uint8_t* to = out
        frame_read(&self.b, &self.b.frames[index], 0, to, self.b.frames[index].len)
        return bytes(out)

    def frame_length(self, uint32_t index):
        if index >= self.b.frames_n:
            raise IndexError(f"a burst of {self.b.frames_n} frames has no frame {index}")
        return self.b.frames[index].len

    def destination(self, uint32_t index):
        """Return the port that classification chose, FLOOD or DROP."""
        if index >= self.b.frames_n:
            raise IndexError(f"a burst of {self.b.frames_n} frames has no frame {index}")
        return self.b.frames[index].dest

    def present(self):
        """Return the indices of the frames that are still under way: for slow interposers and tests."""
        cdef uint32_t i
        cdef list indices = []
        for i in range(self.b.frames_n):
            if self.b.frames[i].dest >= DEST_FLOOD:
                indices.append(i)
        return indices

    def remove(self, uint32_t index):
        """Drop one frame, as an interposer does; the bridge will never see it."""
        if index >= self.b.frames_n:
            raise IndexError(f"a burst of {self.b.frames_n} frames has no frame {index}")
        self.b.frames[index].dest = DEST_REMOVED

    def send_all_to(self, int32_t port):
        """Give every frame the same destination."""
        cdef uint32_t i
        for i in range(self.b.frames_n):
            self.b.frames[i].dest = port

    def count_for(self, int32_t port, uint32_t first):
        """Return how many frames from `first` on go to `port` or to everyone."""
        cdef uint32_t i, n = 0
        for i in range(first, self.b.frames_n):
            n += self.b.frames[i].dest == port or self.b.frames[i].dest == DEST_FLOOD
        return n

    @property
    def absent(self):
        """How many frames are not under way: removed, or not for whom this burst is shown."""
        cdef uint32_t i, n = 0
        for i in range(self.b.frames_n):
            n += self.b.frames[i].dest < DEST_FLOOD
        return n

    @property
    def removed(self):
        """How many frames interposers removed."""
        cdef uint32_t i, n = 0
        for i in range(self.b.frames_n):
            n += self.b.frames[i].dest == DEST_REMOVED
        return n

    @property
    def byte_count(self):
        cdef uint64_t total = 0
        cdef uint32_t i
        for i in range(self.b.frames_n):
            total += self.b.frames[i].len
        return total


cdef class FrameStore(Burst):
    """A burst that owns its bytes: frames given as Python bytes (tests, injected frames)."""

    cdef bytearray store

    def load(self, frames):
        """Replace the content; raises ValueError beyond 256 frames."""
        if len(frames) > BURST_FRAMES:
            raise ValueError(f"a burst holds {BURST_FRAMES} frames, not {len(frames)}")
        self.store = bytearray(b"".join(frames))
        cdef uint8_t* base = self.store
        cdef uint32_t i, offset = 0
        for i in range(len(frames)):
            self.b.segments[i].host = base + offset
            self.b.segments[i].len = len(frames[i])
            memset(&self.b.frames[i], 0, sizeof(frame))
            self.b.frames[i].first_segment = self.b.frames[i].id = i
            self.b.frames[i].segments, self.b.frames[i].len, self.b.frames[i].dest = 1, len(frames[i]), DEST_FLOOD
            offset += len(frames[i])
        self.b.frames_n = self.b.segments_n = len(frames)


cdef class Regions:
    """Guest physical ranges and where this process has them mapped; the bounds of every access by a device."""

    cdef regions m
    cdef list keep

    def __cinit__(self):
        self.m.n = 0
        self.keep = []

    def add(self, uint64_t gpa, Pinned buffer, Py_ssize_t offset=0, Py_ssize_t size_bytes=-1, uint64_t hpa=0):
        """Map `size_bytes` of a buffer at `gpa`; raises ValueError where it does not fit. `hpa`, where it is host memory, is only told to
        whoever traces.
        """
        if size_bytes < 0:
            size_bytes = buffer.size_bytes - offset
        if self.m.n == REGIONS_MAX or offset < 0 or offset + size_bytes > buffer.size_bytes or gpa + <uint64_t>size_bytes < gpa:
            raise ValueError(f"a region of {size_bytes} bytes at {gpa:#x} does not fit")
        self.m.r[self.m.n] = region(gpa, size_bytes, buffer.data + offset, hpa)
        self.m.n += 1
        self.keep.append(buffer)

    def clear(self):
        self.m.n = 0
        self.keep.clear()

    def contains(self, uint64_t gpa, uint64_t length):
        """Say whether the whole range is mapped in one piece."""
        return regions_resolve(&self.m, gpa, length) is not NULL

    def read(self, uint64_t gpa, uint64_t length):
        """Return bytes; None outside what is mapped."""
        cdef uint8_t* p = regions_resolve(&self.m, gpa, length)
        return None if p is NULL else <bytes>p[:length]

    def write(self, uint64_t gpa, const uint8_t[::1] data):
        """Write bytes; say whether the range is mapped."""
        cdef uint8_t* p = regions_resolve(&self.m, gpa, data.shape[0])
        if p is NULL:
            return False
        if data.shape[0]:
            memcpy(p, &data[0], data.shape[0])
        return True


FLOOD = DEST_FLOOD
DROP = DEST_DROP
REMOVED = DEST_REMOVED
FRAMES_MAX = BURST_FRAMES
