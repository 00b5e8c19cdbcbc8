"""What the device's side of every virtqueue has in common."""

cdef extern from "delivery.h":
    cdef struct delivery:
        void* queue
        uint32_t (*deliver)(void*, const burst*, uint32_t, uint32_t, int32_t, uint64_t*) noexcept nogil
        bint (*publish)(void*) noexcept nogil
        const int* fault
        uint64_t copied
    uint32_t deliver_burst(delivery*, const burst*, uint32_t, uint32_t, int32_t) nogil
    uint32_t deliver_flows(delivery**, uint32_t, const burst*, uint32_t, int32_t) nogil
    enum: LANES_MAX

cdef extern from "command.h":
    enum: COMMAND_BYTES_MAX
    cdef struct command:
        uint8_t bytes[4096]
        uint32_t len
        uint8_t* status


cdef extern from "linger.h":
    bint linger(watch_fn, void*) nogil


cdef int _check_taken(const command* pending) except -1:
    if pending is NULL or pending.status is NULL:
        raise ValueError("an answer needs a command that was taken and not yet answered")
    return 0


cdef class Drain:
    """Where frames go that a device takes out of a guest's queue, burst by burst and without Python in between."""

    cdef bint enough
    """Somebody has something to do: no more bursts now."""

    cdef bint take(self, burst* b) noexcept nogil:
        """Deal with a burst; False: it stays as it is, and whoever began goes on with it in Python."""
        return False

    def take_burst(self, Burst frames not None):
        """Deal with one fetched burst; True: it can be completed."""
        cdef bint done
        with nogil:
            done = self.take(&frames.b)
        return done


cdef class DeviceRing(Watched):
    """The device's side of a virtqueue; SplitDevice and PackedDevice are the two formats."""

    cdef delivery to
    cdef Regions memory
    cdef Pinned counters
    cdef command* pending

    cdef void fill(self, burst* b, uint32_t limit) noexcept nogil:
        pass

    cdef bint give_back(self, const burst* b) noexcept nogil:
        return False

    cdef bint next_command(self, command* c) noexcept nogil:
        return False

    cdef bint answer(self, const command* c, uint8_t status) noexcept nogil:
        return False

    def __dealloc__(self):
        free(self.pending)

    def fetch(self, Burst to, uint32_t limit=BURST_FRAMES):
        """Take available transmit chains into `to`; return how many frames. A broken queue gives 0 and sets `fault`."""
        with nogil:
            self.fill(&to.b, limit)
        return to.b.frames_n

    def complete(self, Burst done):
        """Give the chains of a fetched burst back; True: the driver wants a call."""
        cdef bint call
        with nogil:
            call = self.give_back(&done.b)
        return call

    def drain(self, Drain where not None, Burst through not None, uint32_t limit):
        """Take up to `limit` frames, burst by burst, have `where` deal with each and complete it.

        Return (frames completed, the driver wants a call, the last burst stays: it is in `through`, fetched and not completed). A burst is as
        small as serves the nearest cache.
        """
        cdef uint32_t done = 0
        cdef bint call = False, held = False
        with nogil:
            while done < limit:
                self.fill(&through.b, min(limit - done, <uint32_t>PASS_FRAMES))
                if not through.b.frames_n:
                    if done >= <uint32_t>PASS_FRAMES and linger(self.w.ready, self.w.what):
                        continue
                    break
                if not where.take(&through.b):
                    held = True
                    break
                call |= self.give_back(&through.b)
                done += through.b.frames_n
                if where.enough:
                    break
        return done, bool(call), bool(held)

    def deliver(self, Burst frames, uint32_t first, int32_t port):
        """Copy the frames for `port` from index `first` on into receive buffers; return the index of the first that must wait."""
        cdef uint32_t stopped
        with nogil:
            stopped = deliver_burst(&self.to, &frames.b, first, frames.b.frames_n, port)
        return stopped

    def publish(self):
        """Show the driver what was used; True: it wants a call."""
        return bool(self.to.publish(self.to.queue))

    def take_command(self):
        """Return the bytes of the next command of a control queue, None where there is none; answer it before the next."""
        if self.pending is NULL:
            self.pending = <command*>calloc(1, sizeof(command))
            if self.pending is NULL:
                raise MemoryError
        if not self.next_command(self.pending):
            return None
        return <bytes>self.pending.bytes[:self.pending.len]

    def answer_command(self, uint8_t status):
        """Write the answer to the command that was taken; True: the driver wants a call. ValueError where none was."""
        _check_taken(self.pending)
        cdef bint call = self.answer(self.pending, status)
        self.pending.status = NULL
        return call

    @property
    def fault(self):
        """Code of the fault that broke the queue (a word of port_counters), or 0."""
        return self.to.fault[0]

    @property
    def bytes_copied(self):
        return self.to.copied


cdef uint32_t _deliveries(rings, delivery** to) except 0:
    """List where frames are delivered; raises ValueError where there is none or are too many."""
    cdef uint32_t i, count = <uint32_t>len(rings)
    if not 0 < count <= LANES_MAX:
        raise ValueError(f"frames are delivered to 1 to {LANES_MAX} queues, not {count}")
    for i in range(count):
        to[i] = &(<DeviceRing?>rings[i]).to
    return count


def deliver_spread(rings, Burst frames, uint32_t first, int32_t port):
    """Deliver like `DeviceRing.deliver`, each flow to one of several rings; a ring without room holds the frames behind it back."""
    cdef delivery* to[LANES_MAX]
    cdef uint32_t stopped, count = _deliveries(rings, to)
    with nogil:
        stopped = deliver_flows(to, count, &frames.b, first, port)
    return stopped
