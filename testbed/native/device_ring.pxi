"""What the device's side of every virtqueue has in common."""

cdef extern from "flow_hash.h":
    uint32_t flow_run(const burst*, uint32_t, uint32_t, uint32_t*) nogil

cdef extern from "command.h":
    enum: COMMAND_BYTES_MAX
    cdef struct command:
        uint8_t bytes[4096]
        uint32_t len
        uint8_t* status


cdef int _check_taken(const command* pending) except -1:
    if pending is NULL or pending.status is NULL:
        raise ValueError("an answer needs a command that was taken and not yet answered")
    return 0


cdef class DeviceRing(Watched):
    """The device's side of a virtqueue; SplitDevice and PackedDevice are the two formats."""

    cdef uint64_t copied

    cdef uint32_t run(self, const burst* b, uint32_t first, uint32_t end, int32_t port) noexcept nogil:
        return first

    def deliver(self, Burst frames, uint32_t first, int32_t port):
        """Copy the frames for `port` from index `first` on into receive buffers; return the index of the first that must wait."""
        cdef uint32_t stopped
        with nogil:
            stopped = self.run(&frames.b, first, frames.b.frames_n, port)
        return stopped

    @property
    def bytes_copied(self):
        return self.copied


def deliver_spread(list rings, Burst frames, uint32_t first, int32_t port):
    """Deliver like `DeviceRing.deliver`, each flow to one of several rings; a ring without room holds the frames behind it back."""
    cdef uint32_t which = 0, end, stopped
    cdef DeviceRing ring
    cdef uint32_t count = len(rings)
    while first < frames.b.frames_n:
        end = flow_run(&frames.b, first, count, &which)
        ring = <DeviceRing?>rings[which]
        with nogil:
            stopped = ring.run(&frames.b, first, end, port)
        if stopped < end:
            return stopped
        first = end
    return first
