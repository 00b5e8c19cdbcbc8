"""The libzmq that pyzmq has loaded, for native code that wakes and sleeps.

Reference: zmq_send(3), zmq_recv(3), zmq_getsockopt(3). Its functions are looked up in pyzmq's own extension
module, which finds them wherever it was linked to. Not modelled: pyzmq's other back end (cffi, for PyPy).
"""

import ctypes
from functools import cache
from typing import Final

import zmq
from zmq.backend.cython import _zmq

from testbed.errors import MachineError
from testbed.native import MessageSocket, ZeroMq

_FUNCTIONS: Final = ("zmq_send", "zmq_recv", "zmq_getsockopt", "zmq_errno")


@cache
def _library() -> ZeroMq:
    """Return the functions by their addresses; MachineError where this pyzmq keeps them to itself."""
    path = str(_zmq.__file__)
    module = ctypes.CDLL(path)
    addresses = []
    for name in _FUNCTIONS:
        try:
            address = ctypes.cast(getattr(module, name), ctypes.c_void_p).value
        except AttributeError:
            address = None
        if not address:
            raise MachineError(f"pyzmq: {name} is not to be found in {path}; install pyzmq as a wheel")
        addresses.append(address)
    return ZeroMq(*addresses)


def message_socket(socket: "zmq.Socket[bytes]") -> MessageSocket:
    """Return native access to a socket; it is to be closed before the socket is."""
    return MessageSocket(_library(), socket.underlying)
