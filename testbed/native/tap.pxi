"""The file of a TAP device: frames from a Linux network stack and to it."""

from libc.string cimport strerror

cdef extern from "tap_io.h":
    cdef struct tap:
        int fd, error
        bint join
        uint64_t read, written, cut, joined, too_long, refused
    uint32_t tap_read(tap*, burst*) nogil
    void tap_write(tap*, const burst*) nogil
    int tap_ready(void*) nogil

cdef bint _tap_ready(void* what) noexcept nogil:
    return tap_ready(what) != 0


cdef class Tap(Watched):
    """A TAP device's queue, by its descriptor (not blocking, IFF_VNET_HDR); ready while the kernel has a frame. `arm` only looks:
    whoever sleeps must poll the descriptor. `join`: hand TCP segments in a row over as one frame."""

    cdef tap* t

    def __cinit__(self, int descriptor, bint join=False):
        self.t = <tap*>calloc(1, sizeof(tap))
        if self.t is NULL:
            raise MemoryError
        self.t.fd, self.t.join = descriptor, join
        self.w = watched(self.t, _tap_ready, _tap_ready, _nothing, True)

    def __dealloc__(self):
        free(self.t)

    def read(self, Burst reserved not None):
        """Fill the reserved frames of a burst; return how many were filled. OSError where the device is gone."""
        cdef uint32_t filled
        with nogil:
            filled = tap_read(self.t, &reserved.b)
        self._check()
        return filled

    def write(self, Burst frames not None):
        """Hand every frame of a burst to the kernel; OSError where the device is gone."""
        with nogil:
            tap_write(self.t, &frames.b)
        self._check()

    cdef int _check(self) except -1:
        if self.t.error:
            raise OSError(self.t.error, strerror(self.t.error).decode())
        return 0

    @property
    def frames_read(self):
        return self.t.read

    @property
    def frames_written(self):
        return self.t.written

    @property
    def frames_cut(self):
        """The kernel's frames that left as several."""
        return self.t.cut

    @property
    def frames_joined(self):
        """Frames that arrived as several."""
        return self.t.joined

    @property
    def too_long(self):
        """Frames of the kernel's that were longer than a buffer: dropped."""
        return self.t.too_long

    @property
    def refused(self):
        """Frames that the kernel did not take: dropped."""
        return self.t.refused
