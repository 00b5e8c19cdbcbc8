"""Types of the native extension."""

from typing_extensions import Buffer

class Pinned:
    size_bytes: int
    writable: bool
    def __init__(self, buffer: Buffer, writable: bool = True) -> None: ...
    @property
    def address(self) -> int: ...
