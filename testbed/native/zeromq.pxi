"""ZeroMQ sockets of pyzmq, by their handles: a message that wakes a sleeper, and the sleep itself."""

from cpython.exc cimport PyErr_CheckSignals

cdef extern from "poll.h":
    struct pollfd:
        int fd
        short events
        short revents
    enum: POLLIN

cdef extern from "errno.h":
    enum: EINTR

cdef extern from "string.h":
    char* strerror(int)

cdef extern from "zeromq.h":
    ctypedef struct zeromq:
        int (*send)(void*, const void*, size_t, int) nogil
        int (*recv)(void*, void*, size_t, int) nogil
        int (*getsockopt)(void*, int, void*, size_t*) nogil
        int (*error)() nogil
    int zeromq_send(const zeromq*, void*) nogil
    int zeromq_drain(const zeromq*, void*, int) nogil
    int zeromq_readable(const zeromq*, void*) nogil
    int zeromq_descriptor(const zeromq*, void*) nogil
    int zeromq_wait(const zeromq*, void**, int, pollfd*, int, int64_t) nogil

cdef enum:
    SLEEP_SOCKETS_MAX = 4
    SLEEP_FILES_MAX = 63


cdef int _done(int result) except -1:
    if result < 0:
        raise OSError(-result, f"ZeroMQ: {strerror(-result).decode()}")
    return result


cdef class ZeroMq:
    """The functions of a loaded libzmq, by their addresses."""

    cdef zeromq z

    def __init__(self, size_t send, size_t recv, size_t getsockopt, size_t error):
        self.z.send = <int (*)(void*, const void*, size_t, int) noexcept nogil>send
        self.z.recv = <int (*)(void*, void*, size_t, int) noexcept nogil>recv
        self.z.getsockopt = <int (*)(void*, int, void*, size_t*) noexcept nogil>getsockopt
        self.z.error = <int (*)() noexcept nogil>error


cdef class MessageSocket:
    """A socket by its handle, of one thread; `close` comes before the socket's own. OSError where ZeroMQ refuses, or it is closed."""

    cdef ZeroMq calls
    cdef void* handle

    def __init__(self, ZeroMq calls not None, size_t handle):
        self.calls, self.handle = calls, <void*>handle

    cdef void* _open(self) except NULL:
        if self.handle is NULL:
            raise ValueError("a closed socket")
        return self.handle

    # none of these blocks, so they keep the interpreter

    def notify(self):
        """Send an empty message; False where its queue is full or nobody listens."""
        return bool(_done(zeromq_send(&self.calls.z, self._open())))

    def drain(self, int most):
        """Forget at most so many messages; return how many there were."""
        return _done(zeromq_drain(&self.calls.z, self._open(), most))

    @property
    def readable(self):
        """A message can be received."""
        return bool(_done(zeromq_readable(&self.calls.z, self._open())))

    def close(self):
        """Use the handle no more."""
        self.handle = NULL


cdef class BellRinger:
    """The producer's side of a bell: a message only where the consumer sleeps."""

    cdef Bell bell
    cdef MessageSocket socket
    cdef readonly uint64_t asked, sent
    cdef public uint32_t who
    """The consumer, for whoever traces (`process_number`)."""

    def __init__(self, Bell bell not None, MessageSocket socket not None):
        self.bell, self.socket = bell, socket

    def ring(self):
        """Tell the other side that something happened."""
        self.asked += 1
        trace_event(TRACE_BELL_RUNG, 0, self.who, 0, 0, 0)
        if bell_ring(self.bell.bell):
            self.wake()

    def count(self, uint64_t rung):
        """Its bell was rung natively so often, by whoever does not ring here."""
        self.asked += rung

    cpdef wake(self):
        """Send the message that a bell has been found to ask for by whoever rang it natively."""
        self.sent += 1
        trace_event(TRACE_BELL_SENT, 0, self.who, 0, 0, 0)
        # a queue that is full is full of messages that say the same
        _done(zeromq_send(&self.socket.calls.z, self.socket._open()))


cdef class Sleeper:
    """Blocks on sockets of one library and on files. What was added as the nth is bit n of what `sleep` returns; sockets come first."""

    cdef list sockets
    cdef ZeroMq calls
    cdef void* handles[SLEEP_SOCKETS_MAX]
    cdef pollfd files[SLEEP_FILES_MAX]
    cdef int sockets_n, fixed_n

    def __init__(self):
        self.sockets = []

    cdef int _add(self, int at, int descriptor) except -1:
        if at == SLEEP_FILES_MAX:
            raise ValueError(f"at most {SLEEP_FILES_MAX} sockets and files can be slept on")
        self.files[at].fd, self.files[at].events = descriptor, POLLIN
        return 0

    def add_socket(self, MessageSocket socket not None):
        """Wake for messages; return its bit."""
        if self.sockets_n == SLEEP_SOCKETS_MAX or self.fixed_n > self.sockets_n:
            raise ValueError(f"at most {SLEEP_SOCKETS_MAX} sockets can be slept on, and they are added before files")
        self._add(self.fixed_n, _done(zeromq_descriptor(&socket.calls.z, socket._open())))
        self.handles[self.sockets_n] = socket.handle
        self.calls = socket.calls
        self.sockets.append(socket)
        self.sockets_n += 1
        self.fixed_n += 1
        return <uint64_t>1 << (self.fixed_n - 1)

    def add_file(self, int descriptor):
        """Wake when it can be read; return its bit."""
        self._add(self.fixed_n, descriptor)
        self.fixed_n += 1
        return <uint64_t>1 << (self.fixed_n - 1)

    @property
    def room(self):
        """Files that `sleep` can be given besides."""
        return SLEEP_FILES_MAX - self.fixed_n

    def sleep(self, int64_t timeout_ns, files=()):
        """Block until something can be read, and return what, or 0 after the time (negative: never) or a signal.

        `files`: descriptors besides those that are always looked at.
        """
        cdef int count = self.fixed_n, found, descriptor, i
        cdef uint64_t ready = 0
        cdef MessageSocket socket
        for descriptor in files:
            self._add(count, descriptor)
            count += 1
        for socket in self.sockets:
            socket._open()
        with nogil:
            found = zeromq_wait(&self.calls.z, self.handles, self.sockets_n, self.files, count, timeout_ns)
        if found == -EINTR:
            PyErr_CheckSignals()
            return 0
        _done(found)
        for i in range(count):
            ready |= <uint64_t>(self.files[i].revents != 0) << i
        return ready
