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


cdef class ExitMailbox:
    """The vCPU's side."""

    cdef Pinned page
    cdef exit_page* p
    cdef uint32_t number

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
                return True
        return False

    def leave(self, uint32_t reason, uint64_t syndrome, uint64_t gpa, uint64_t data):
        """Ask for an exit; whoever calls this rings the bell and waits until it is `answered`."""
        self.p.exit_reason, self.p.exit_syndrome, self.p.exit_gpa, self.p.exit_data = reason, syndrome, gpa, data
        self.number += 1
        store_release_u32(&self.p.exit_request, self.number)

    def leave_with(self, uint32_t reason, uint64_t syndrome, uint64_t x0, uint64_t x1, uint64_t x2, uint64_t x3):
        """Ask for an exit that carries registers."""
        self.p.exit_x[0], self.p.exit_x[1], self.p.exit_x[2], self.p.exit_x[3] = x0, x1, x2, x3
        self.leave(reason, syndrome, 0, 0)

    def answered(self, int64_t spin_ns=0):
        """Say whether the exit has been answered, looking for it for some time and yielding meanwhile."""
        cdef bint done
        cdef int64_t end
        if load_acquire_u32(&self.p.exit_reply) == self.number:
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
        return done

    @property
    def result(self):
        """What a load gives, once answered."""
        return self.p.exit_result

    @property
    def results(self):
        """What a call returns in its first four registers, once answered."""
        return self.p.exit_result_x[0], self.p.exit_result_x[1], self.p.exit_result_x[2], self.p.exit_result_x[3]


cdef bint _exit_ready(void* what) noexcept nogil:
    cdef exit_page* p = <exit_page*>what
    return load_acquire_u32(&p.exit_request) != load_acquire_u32(&p.exit_reply)

cdef bint _exit_arm(void* what) noexcept nogil:
    full_fence()
    return _exit_ready(what)


cdef class ExitRequests(Watched):
    """The vmm's side. Ready while an exit waits for its answer; every value in the page is the guest's to write."""

    cdef Pinned page
    cdef exit_page* p
    cdef uint32_t number

    def __init__(self, Pinned page):
        self.page = page
        self.p = <exit_page*>_at(page, 0, sizeof(exit_page))
        self.w = watched(self.p, _exit_ready, _exit_arm, _nothing, True)

    def take(self):
        """Return (reason, syndrome, address, data) of the exit that is asked for, or None."""
        self.number = load_acquire_u32(&self.p.exit_request)
        if load_acquire_u32(&self.p.exit_reply) == self.number:
            return None
        return self.p.exit_reason, self.p.exit_syndrome, self.p.exit_gpa, self.p.exit_data

    def registers(self):
        """Return the four registers of the exit that was taken."""
        return self.p.exit_x[0], self.p.exit_x[1], self.p.exit_x[2], self.p.exit_x[3]

    def answer(self, uint64_t result):
        """Give a load its value and let the vCPU go on."""
        self.p.exit_result = result
        store_release_u32(&self.p.exit_reply, self.number)

    def answer_with(self, uint64_t x0, uint64_t x1, uint64_t x2, uint64_t x3):
        """Give a call its results and let the vCPU go on."""
        self.p.exit_result_x[0], self.p.exit_result_x[1], self.p.exit_result_x[2], self.p.exit_result_x[3] = x0, x1, x2, x3
        self.answer(x0)
