"""A pointer and a length taken from a Python buffer, kept alive by holding the buffer."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset


cdef class Pinned:
    """Holds a buffer (an mmap, bytearray or memoryview) so that native code may keep its address."""

    cdef Py_buffer view
    cdef uint8_t* data
    cdef readonly Py_ssize_t size_bytes
    cdef readonly bint writable

    def __cinit__(self, buffer, bint writable=True):
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.data = <uint8_t*>self.view.buf
        self.size_bytes = self.view.len
        self.writable = writable

    def __dealloc__(self):
        PyBuffer_Release(&self.view)

    def bytes_view(self):
        """Return the whole buffer as bytes that can be written."""
        return memoryview(self.view.obj).cast("B")

    def words(self, Py_ssize_t offset, Py_ssize_t size_bytes):
        """Return a part as 64-bit words; raises ValueError where it does not fit or is not aligned."""
        if offset < 0 or offset % 8 or size_bytes % 8 or offset + size_bytes > self.size_bytes:
            raise ValueError(f"{size_bytes} bytes at offset {offset} are not words of a buffer of {self.size_bytes} bytes")
        return memoryview(self.view.obj).cast("B")[offset:offset + size_bytes].cast("Q")

    @property
    def address(self) -> int:
        return <uint64_t>self.data
