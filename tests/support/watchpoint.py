"""Counts how often this process reads or writes one word: a hardware breakpoint of the kernel's.

Reference: perf_event_open(2), PERF_TYPE_BREAKPOINT. Not modelled: threads but the one that opens it.
"""

import ctypes
import os
import struct
from typing import Final, Self

_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
_TYPE_BREAKPOINT: Final = 5
_ATTRIBUTE_BYTES: Final = 128
_FLAGS_OFFSET: Final = 40
_EXCLUDE_KERNEL_AND_HYPERVISOR: Final = 1 << 5 | 1 << 6
_BREAKPOINT_OFFSET: Final = 52
"""bp_type, bp_addr, bp_len."""
_READ_OR_WRITE: Final = 3
_ANY_CPU = _NO_GROUP = -1


class Watchpoint:
    """Accesses of a word of 4 bytes while the context is open; OSError where the kernel allows none."""

    def __init__(self, address: int) -> None:
        attribute = bytearray(_ATTRIBUTE_BYTES)
        struct.pack_into("<II", attribute, 0, _TYPE_BREAKPOINT, _ATTRIBUTE_BYTES)
        struct.pack_into("<Q", attribute, _FLAGS_OFFSET, _EXCLUDE_KERNEL_AND_HYPERVISOR)
        struct.pack_into("<IQQ", attribute, _BREAKPOINT_OFFSET, _READ_OR_WRITE, address, 4)
        libc = ctypes.CDLL(None, use_errno=True)
        told = (ctypes.c_char * _ATTRIBUTE_BYTES).from_buffer(attribute)
        number = _SYSCALL.get(os.uname().machine, -1)
        self._descriptor = libc.syscall(number, told, 0, _ANY_CPU, _NO_GROUP, 0)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)

    @property
    def accesses(self) -> int:
        """How many there were."""
        return int.from_bytes(os.read(self._descriptor, 8), "little")
