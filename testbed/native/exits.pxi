"""The exit mailbox in a vCPU's page: the vCPU's side leaves and waits, the vmm's side takes and answers.

Order. The vCPU writes the request, then its number (release); the vmm that acquires the number sees the request. The vmm writes the
result, then the reply's number (release); the vCPU that acquires that sees the result. One exit is under way at a time.
"""

cdef extern from "layouts.h":
    ctypedef struct exit_page "vcpu_page_t":
        uint32_t exit_request, exit_reason
        uint64_t exit_syndrome "exit_esr", exit_gpa, exit_data
        uint64_t exit_x[4]
        uint32_t exit_reply
        uint64_t exit_result
        uint64_t exit_result_x[4]
        uint64_t doorbells[32]
    ctypedef struct doorbell_match_t:
        uint64_t gpa
        uint32_t valid
    uint32_t VCPU_PAGE_DOORBELL_MATCHES
    uint64_t VCPU_PAGE_ESR_MMIO_MASK, VCPU_PAGE_ESR_MMIO, VCPU_PAGE_ESR_WNR_MASK
    uint32_t VCPU_PAGE_ESR_SAS_SHIFT
    uint16_t TRACE_EXIT, TRACE_EXIT_OTHER, TRACE_EXIT_DECODED, TRACE_EXIT_TAKEN, TRACE_EXIT_ANSWERED, TRACE_ENTRY, TRACE_DOORBELL_STORE


cdef uint64_t _MMIO_MASK = VCPU_PAGE_ESR_MMIO_MASK
cdef uint64_t _MMIO = VCPU_PAGE_ESR_MMIO


cdef class ExitMailbox:
    """The vCPU's side."""

    cdef Pinned page
    cdef exit_page* p
    cdef uint32_t number, told

    def __init__(self, Pinned page):
        self.page = page
        self.p = <exit_page*>_at(page, 0, sizeof(exit_page))
        self.number = load_acquire_u32(&self.p.exit_reply)

    def is_doorbell(self, uint64_t gpa):
        """Say whether a store to this address rings the hypervisor's bell and needs no answer."""
        cdef doorbell_match_t* match = <doorbell_match_t*>self.p.doorbells
        cdef uint32_t i
        for i in range(VCPU_PAGE_DOORBELL_MATCHES):
            if not load_acquire_u32(&match[i].valid):
                return False
            if match[i].gpa == gpa:
                trace_event(TRACE_DOORBELL_STORE, 0, gpa, 0, 0, 0)
                return True
        return False

    def leave(self, uint32_t reason, uint64_t syndrome, uint64_t gpa, uint64_t data):
        """Ask for an exit; whoever calls this rings the bell and waits until it is `answered`."""
        self.p.exit_reason, self.p.exit_syndrome, self.p.exit_gpa, self.p.exit_data = reason, syndrome, gpa, data
        self.number += 1
        if trace_on():
            self.tell(reason, syndrome, gpa, data)
        store_release_u32(&self.p.exit_request, self.number)

    cdef void tell_entry(self) noexcept:
        if self.told != self.number:  # whoever waits asks again
            self.told = self.number
            trace_put(TRACE_ENTRY, 0, 0, self.p.exit_result, 0, 0, 0)

    cdef void tell(self, uint32_t reason, uint64_t syndrome, uint64_t gpa, uint64_t data) noexcept:
        if not reason and (syndrome & _MMIO_MASK) == _MMIO:
            trace_put(TRACE_EXIT, 0, 0, (syndrome & VCPU_PAGE_ESR_WNR_MASK) != 0, gpa, data, syndrome)
        else:
            trace_put(TRACE_EXIT_OTHER, 0, 0, reason, syndrome, data, 0)

    def leave_with(self, uint32_t reason, uint64_t syndrome, uint64_t x0, uint64_t x1, uint64_t x2, uint64_t x3):
        """Ask for an exit that carries registers."""
        self.p.exit_x[0], self.p.exit_x[1], self.p.exit_x[2], self.p.exit_x[3] = x0, x1, x2, x3
        self.leave(reason, syndrome, 0, 0)

    def answered(self, int64_t spin_ns=0):
        """Say whether the exit has been answered, looking for it for some time and yielding meanwhile."""
        cdef bint done
        cdef int64_t end
        if load_acquire_u32(&self.p.exit_reply) == self.number:
            if trace_on():
                self.tell_entry()
            return True
        if spin_ns <= 0:
            return False
        with nogil:
            end = monotonic_ns() + spin_ns
            while True:
                sched_yield()
                done = load_acquire_u32(&self.p.exit_reply) == self.number
                if done or monotonic_ns() >= end:
                    break
        if done and trace_on():
            self.tell_entry()
        return done

    @property
    def result(self):
        """What a load gives, once answered."""
        return self.p.exit_result

    @property
    def results(self):
        """What a call returns in its first four registers, once answered."""
        return self.p.exit_result_x[0], self.p.exit_result_x[1], self.p.exit_result_x[2], self.p.exit_result_x[3]


cdef object _access_key(uint64_t gpa, uint64_t size_log2, bint write):
    """Device windows lie below 2^60: the rest of an address cannot be lost without missing the window."""
    if gpa >> 60:
        return None
    return (gpa << 3) | (size_log2 << 1) | write


cdef bint _exit_ready(void* what) noexcept nogil:
    cdef exit_page* p = <exit_page*>what
    return load_acquire_u32(&p.exit_request) != load_acquire_u32(&p.exit_reply)

cdef bint _exit_arm(void* what) noexcept nogil:
    full_fence()
    return _exit_ready(what)


cdef class _KnownAccess:
    """An access whose device was found once: what to call, and the two words that count it."""

    cdef object function
    cdef uint64_t* reason
    cdef uint64_t* register
    cdef uint64_t mask
    cdef Pinned counters


cdef class ExitRequests(Watched):
    """The vmm's side. Ready while an exit waits for its answer; every value in the page is the guest's to write.

    Loads and stores that were made known are served at once, without looking for their device again.
    """

    cdef Pinned page
    cdef exit_page* p
    cdef uint32_t number
    cdef dict known
    cdef object before_answer
    cdef public uint32_t who
    """Whose exits they are, for whoever traces (`process_number`)."""

    def __init__(self, Pinned page, before_answer):
        """`before_answer` is called before the vCPU goes on."""
        self.page, self.before_answer = page, before_answer
        self.p = <exit_page*>_at(page, 0, sizeof(exit_page))
        self.known = {}
        self.w = watched(self.p, _exit_ready, _exit_arm, _nothing, True)

    def know(self, uint64_t gpa, uint32_t size_log2, bint write, function, Pinned counters, Py_ssize_t reason, Py_ssize_t register):
        """Have `serve` call `function` (with the value of a store) for an access; `reason` and `register` are offsets of its counters."""
        cdef _KnownAccess access = _KnownAccess.__new__(_KnownAccess)
        access.function, access.counters = function, counters
        access.reason = <uint64_t*>_at(counters, reason, 8)
        access.register = <uint64_t*>_at(counters, register, 8)
        access.mask = 0xffffffffffffffff >> (64 - (8 << size_log2))
        self.known[_access_key(gpa, size_log2, write)] = access

    def serve(self):
        """Answer an access that is known; return 1 where there was one, 0 where no exit is asked for, -1 where `take` must be called."""
        cdef _KnownAccess access
        cdef uint64_t syndrome
        cdef bint write
        self.number = load_acquire_u32(&self.p.exit_request)
        if load_acquire_u32(&self.p.exit_reply) == self.number:
            return 0
        syndrome = self.p.exit_syndrome
        if self.p.exit_reason or (syndrome & _MMIO_MASK) != _MMIO:
            return -1
        write = (syndrome & VCPU_PAGE_ESR_WNR_MASK) != 0
        trace_event(TRACE_EXIT_DECODED, 0, self.who, write, self.p.exit_gpa, self.p.exit_data)
        found = self.known.get(_access_key(self.p.exit_gpa, (syndrome >> VCPU_PAGE_ESR_SAS_SHIFT) & 3, write))
        if found is None:
            return -1
        access = <_KnownAccess>found
        access.reason[0] += 1
        access.register[0] += 1
        if write:
            access.function(self.p.exit_data & access.mask)
            self.p.exit_result = 0
        else:
            self.p.exit_result = <uint64_t>access.function() & access.mask
        self.before_answer()
        trace_event(TRACE_EXIT_ANSWERED, 0, self.who, self.p.exit_result, 0, 0)
        store_release_u32(&self.p.exit_reply, self.number)
        return 1

    def take(self):
        """Return (reason, syndrome, address, data) of the exit that is asked for, or None."""
        self.number = load_acquire_u32(&self.p.exit_request)
        if load_acquire_u32(&self.p.exit_reply) == self.number:
            return None
        if self.p.exit_reason or (self.p.exit_syndrome & _MMIO_MASK) != _MMIO:
            trace_event(TRACE_EXIT_TAKEN, 0, self.who, self.p.exit_reason, self.p.exit_syndrome, self.p.exit_data)
        return self.p.exit_reason, self.p.exit_syndrome, self.p.exit_gpa, self.p.exit_data

    def registers(self):
        """Return the four registers of the exit that was taken."""
        return self.p.exit_x[0], self.p.exit_x[1], self.p.exit_x[2], self.p.exit_x[3]

    def answer(self, uint64_t result):
        """Give a load its value and let the vCPU go on."""
        self.before_answer()
        self.p.exit_result = result
        trace_event(TRACE_EXIT_ANSWERED, 0, self.who, result, 0, 0)
        store_release_u32(&self.p.exit_reply, self.number)

    def answer_with(self, uint64_t x0, uint64_t x1, uint64_t x2, uint64_t x3):
        """Give a call its results and let the vCPU go on."""
        self.p.exit_result_x[0], self.p.exit_result_x[1], self.p.exit_result_x[2], self.p.exit_result_x[3] = x0, x1, x2, x3
        self.answer(x0)
