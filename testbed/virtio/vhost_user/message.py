"""vhost-user messages on the wire: from bytes and descriptors to whole messages, and the form of each.

Reference: "Vhost-user Protocol", Header and Front-end message types. Syntax only: lengths, numbers of
descriptors, version; what a message means is `session`'s. Not modelled: messages on the back end's own
channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from testbed.errors import GuestError
from testbed.spec import vhost_user as spec
from testbed.spec.layout import Record
from testbed.spec.vhost_user import Request


@dataclass
class Message:
    """One request; a handler takes the descriptors that it keeps out of the list."""

    request: Request
    need_reply: bool
    payload: bytes = b""
    descriptors: list[int] = field(default_factory=list)

    def u64(self) -> int:
        """Return the payload as one number."""
        return spec.U64.unpack(self.payload)["value"]

    def record(self, record: Record, base: int = 0) -> dict[str, int]:
        """Return the payload as a record."""
        return record.unpack(self.payload, base)


@dataclass(frozen=True)
class Form:
    """What a request must look like."""

    sizes: frozenset[int]
    descriptors_min: int = 0
    descriptors_max: int = 0


def _form(record: Record | int | None = None, least: int = 0, most: int = 0) -> Form:
    size = record.size if isinstance(record, Record) else record or 0
    return Form(frozenset({size}), least, max(least, most))


_SINGLE_REGION: Final = spec.SINGLE_REGION_PADDING_BYTES + spec.REGION.size
_TABLES: Final = frozenset(
    spec.REGIONS_HEADER.size + count * spec.REGION.size for count in range(spec.REGIONS_MAX + 1)
)

FORMS: Final[dict[Request, Form]] = {
    Request.GET_FEATURES: _form(),
    Request.SET_FEATURES: _form(spec.U64),
    Request.SET_OWNER: _form(),
    Request.RESET_OWNER: _form(),
    Request.SET_MEM_TABLE: Form(_TABLES, 0, spec.REGIONS_MAX),
    Request.SET_LOG_BASE: _form(spec.LOG, 1),
    Request.SET_LOG_FD: _form(None, 1),
    Request.SET_VRING_NUM: _form(spec.VRING_STATE),
    Request.SET_VRING_ADDR: _form(spec.VRING_ADDR),
    Request.SET_VRING_BASE: _form(spec.VRING_STATE),
    Request.GET_VRING_BASE: _form(spec.VRING_STATE),
    Request.SET_VRING_KICK: _form(spec.U64, 0, 1),
    Request.SET_VRING_CALL: _form(spec.U64, 0, 1),
    Request.SET_VRING_ERR: _form(spec.U64, 0, 1),
    Request.GET_PROTOCOL_FEATURES: _form(),
    Request.SET_PROTOCOL_FEATURES: _form(spec.U64),
    Request.GET_QUEUE_NUM: _form(),
    Request.SET_VRING_ENABLE: _form(spec.VRING_STATE),
    Request.SET_BACKEND_REQ_FD: _form(None, 1),
    Request.GET_INFLIGHT_FD: _form(spec.INFLIGHT),
    Request.SET_INFLIGHT_FD: _form(spec.INFLIGHT, 1),
    Request.RESET_DEVICE: _form(),
    Request.GET_MAX_MEM_SLOTS: _form(),
    Request.ADD_MEM_REG: _form(_SINGLE_REGION, 1),
    Request.REM_MEM_REG: _form(_SINGLE_REGION, 0, 1),
    Request.SET_STATUS: _form(spec.U64),
    Request.GET_STATUS: _form(),
}
"""Every request that this back end knows; any other is refused."""


class Assembler:
    """Puts messages together from a stream that comes in pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._payload = b""
        self._size_bytes = 0
        self._descriptors: list[int] = []

    @property
    def wanted_bytes(self) -> int:
        """How many bytes to read next at most: never past the end of a message."""
        missing = spec.HEADER.size - len(self._header)
        return missing or self._size_bytes - len(self._payload)

    def feed(self, data: bytes, descriptors: Sequence[int]) -> Message | None:
        """Take bytes, at most `wanted_bytes` of them; return the message that they complete.

        Raises GuestError for what no message can be; `abandon` then has what came with it.
        """
        self._descriptors += descriptors
        if len(self._descriptors) > spec.DESCRIPTORS_MAX:
            raise _refused(f"a message with more than {spec.DESCRIPTORS_MAX} descriptors")
        if len(self._header) < spec.HEADER.size:
            self._header += data
            if len(self._header) == spec.HEADER.size:
                self._check_header()
        else:
            self._payload += data
        return None if self.wanted_bytes else self._complete()

    def abandon(self) -> list[int]:
        """Forget what is not complete; return its descriptors, to be closed."""
        left, self._descriptors = self._descriptors, []
        self._header = self._payload = b""
        self._size_bytes = 0
        return left

    def _check_header(self) -> None:
        header = spec.HEADER.unpack(self._header)
        self._size_bytes = header["size"]
        flags = header["flags"]
        if spec.FLAGS_VERSION.get(flags) != spec.VERSION:
            raise _refused(f"a message of version {spec.FLAGS_VERSION.get(flags)}, not {spec.VERSION}")
        if spec.FLAGS_REPLY.get(flags):
            raise _refused(f"a reply to request {header['request']}, where none was asked for")
        if self._size_bytes > spec.PAYLOAD_BYTES_MAX:
            raise _refused(f"a payload of {self._size_bytes} bytes, more than {spec.PAYLOAD_BYTES_MAX}")

    def _complete(self) -> Message:
        header = spec.HEADER.unpack(self._header)
        request = _request(header["request"])
        form = FORMS[request]
        size, count = len(self._payload), len(self._descriptors)
        if size not in form.sizes:
            raise _refused(f"{request.name} with {size} bytes of payload")
        if not form.descriptors_min <= count <= form.descriptors_max:
            raise _refused(f"{request.name} with {count} descriptors")
        need_reply = bool(spec.FLAGS_NEED_REPLY.get(header["flags"]))
        message = Message(request, need_reply, self._payload, self._descriptors)
        self._descriptors = []
        self.abandon()
        return message


def reply(request: Request, payload: bytes) -> bytes:
    """Return the bytes of an answer to a request."""
    flags = spec.FLAGS_VERSION.put(spec.VERSION) | spec.FLAGS_REPLY.put(1)
    return spec.HEADER.pack(request=request, flags=flags, size=len(payload)) + payload


def request(number: Request, payload: bytes = b"", *, need_reply: bool = False) -> bytes:
    """Return the bytes of a request, as a front end sends it."""
    flags = spec.FLAGS_VERSION.put(spec.VERSION) | spec.FLAGS_NEED_REPLY.put(int(need_reply))
    return spec.HEADER.pack(request=number, flags=flags, size=len(payload)) + payload


def _request(number: int) -> Request:
    if number not in _KNOWN:
        raise _refused(f"request {number}, which is not offered")
    return Request(number)


_KNOWN: Final = frozenset(int(known) for known in FORMS)


def _refused(detail: str) -> GuestError:
    return GuestError("protocol", detail)
