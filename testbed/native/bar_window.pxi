"""Both sides of a window to a device's registers, and the words in which a device keeps its doorbells."""

cdef extern from "bar_window.h":
    ctypedef struct doorbell_word_t:
        uint32_t value
        uint64_t writes
    ctypedef struct bar_write_t:
        uint32_t offset
        uint32_t target
        uint64_t value
    ctypedef struct bar_window_t:
        uint32_t produced, consumed, read_number, reply_number
    enum: BAR_DOORBELLS_MAX
    cdef struct bar_doorbell:
        uint32_t target, offset
        doorbell_word_t* word
    cdef struct bar_completer:
        bar_window_t* window
        uint32_t consumed, answered
        bint fixed_function, paused
        uint32_t function, doorbells_n
        uint64_t overruns, coalesced
        bar_doorbell doorbells[128]
    cdef struct bar_requester:
        bar_window_t* window
        uint32_t produced, asked
    bint bar_post(bar_requester*, uint32_t, uint32_t, uint64_t) nogil
    void bar_ask(bar_requester*, uint32_t, uint32_t) nogil
    bint bar_answer(const bar_requester*, uint64_t*) nogil
    bint bar_room(void*) noexcept nogil
    bint bar_pending(void*) noexcept nogil
    bint bar_take(bar_completer*, bar_write_t*) nogil
    bint bar_take_read(bar_completer*, uint32_t*, uint32_t*) nogil
    void bar_reply(bar_completer*, uint64_t) nogil


cdef class DoorbellWord:
    """A tail register: what was written last, by the device's own model or straight through a window."""

    cdef doorbell_word_t word

    @property
    def value(self):
        return self.word.value

    @value.setter
    def value(self, uint32_t value):
        self.word.value = value
        self.word.writes += 1

    @property
    def writes(self):
        return self.word.writes


cdef class BarRequester(Watched):
    """The driver's side of a window. Ready while there is room for a posted write."""

    cdef bar_requester r
    cdef Pinned page

    def __init__(self, Pinned page):
        self.page = page
        self.r.window = <bar_window_t*>_at(page, 0, sizeof(bar_window_t))
        self.r.produced = load_acquire_u32(&self.r.window.produced)
        self.r.asked = load_acquire_u32(&self.r.window.read_number)
        self.w = watched(&self.r, bar_room, bar_room, _nothing, True)

    def post(self, uint32_t target, uint32_t offset, uint64_t value):
        """Post a write; False where the ring is full."""
        return bar_post(&self.r, target, offset, value)

    def ask(self, uint32_t target, uint32_t offset):
        """Ask for a register; one question at a time."""
        bar_ask(&self.r, target, offset)

    def answer(self):
        """Return the answer to the last question, None while there is none."""
        cdef uint64_t value = 0
        return value if bar_answer(&self.r, &value) else None


cdef class TailDoorbell:
    """A tail register behind a window, written natively: `requester` posts, `bell` is the device's."""

    cdef bar_requester* r
    cdef bell_t* bell
    cdef uint32_t target, offset
    cdef tuple keep

    def __init__(self, BarRequester requester not None, uint32_t target, uint32_t offset, Bell bell not None):
        self.r, self.bell, self.target, self.offset = &requester.r, bell.bell, target, offset
        self.keep = (requester, bell)

    cdef bint write(self, uint32_t tail, bint* asleep) noexcept nogil:
        """Write the register; False where the window is full. `asleep`: a message is to be sent."""
        if not bar_post(self.r, self.target, self.offset, tail):
            return False
        asleep[0] |= bell_ring(self.bell)
        return True


cdef class BarCompleter(Watched):
    """The device's side of a window. Ready while an access waits."""

    cdef bar_completer c
    cdef Pinned page
    cdef list words

    def __init__(self, Pinned page, function=None):
        self.page, self.words = page, []
        self.c.window = <bar_window_t*>_at(page, 0, sizeof(bar_window_t))
        self.c.consumed = load_acquire_u32(&self.c.window.consumed)
        self.c.answered = load_acquire_u32(&self.c.window.reply_number)
        self.c.fixed_function, self.c.function = function is not None, function or 0
        self.w = watched(&self.c, bar_pending, bar_pending, _nothing, True)

    def add_doorbell(self, uint32_t target, uint32_t offset, DoorbellWord word not None):
        """Take writes of one register without Python; raises ValueError where there are too many."""
        if self.c.doorbells_n == BAR_DOORBELLS_MAX:
            raise ValueError(f"a window has at most {BAR_DOORBELLS_MAX} doorbells")
        self.c.doorbells[self.c.doorbells_n] = bar_doorbell(target, offset, &word.word)
        self.c.doorbells_n += 1
        self.words.append(word)

    def take(self):
        """Return the next posted write that is no doorbell as (target, offset, value), None where there is none."""
        cdef bar_write_t write
        if not bar_take(&self.c, &write):
            return None
        return write.target, write.offset, write.value

    def take_read(self):
        """Return the read that waits behind nothing as (target, offset), or None."""
        cdef uint32_t target = 0, offset = 0
        if not bar_take_read(&self.c, &target, &offset):
            return None
        return target, offset

    def reply(self, uint64_t value):
        """Answer the read that was taken."""
        bar_reply(&self.c, value)

    @property
    def overruns(self):
        """How often the other side claimed more writes than the ring holds."""
        return self.c.overruns

    @property
    def paused(self):
        """Nothing is taken, by whoever goes round natively neither."""
        return bool(self.c.paused)

    @paused.setter
    def paused(self, bint paused):
        self.c.paused = paused

    @property
    def coalesced(self):
        """Doorbells that were written again before anybody looked: only the last value counts."""
        return self.c.coalesced
