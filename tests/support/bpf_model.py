"""A slow, obvious classic BPF machine: what the native one must do. Reference: bpf(4), numbers typed anew."""

from collections.abc import Sequence

WORD = 0xFFFF_FFFF


def run(program: Sequence[tuple[int, int, int, int]], frame: bytes) -> int:
    """Return what a checked program returns for a frame."""
    a = x = at = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind = code & 7
        try:
            if kind == 0:
                a = _load(code, k, x, memory, frame)
            elif kind == 1:
                x = (
                    4 * (_bytes(frame, k, 1) & 15)
                    if code & 0xE0 == 0xA0
                    else _load(code, k, x, memory, frame)
                )
            elif kind in (2, 3):
                memory[k] = a if kind == 2 else x
            elif kind == 4:
                a = _compute(code & 0xF0, a, x if code & 8 else k) & WORD
            elif kind == 5:
                at += k if code & 0xF0 == 0 else jt if _holds(code & 0xF0, a, x if code & 8 else k) else jf
            elif kind == 6:
                return a if code & 0x10 else k
            elif code & 0xF8 == 0:
                x = a
            else:
                a = x
        except (IndexError, ZeroDivisionError):
            return 0


def _bytes(frame: bytes, at: int, size: int) -> int:
    if at + size > len(frame):
        raise IndexError
    return int.from_bytes(frame[at : at + size], "big")


def _load(code: int, k: int, x: int, memory: list[int], frame: bytes) -> int:
    size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
    match code & 0xE0:
        case 0x00:
            return k
        case 0x20:
            return _bytes(frame, k, size)
        case 0x40:
            return _bytes(frame, x + k, size)
        case 0x60:
            return memory[k]
        case _:
            return len(frame)


def _compute(operation: int, a: int, by: int) -> int:
    match operation:
        case 0x00:
            return a + by
        case 0x10:
            return a - by
        case 0x20:
            return a * by
        case 0x30:
            return a // by
        case 0x40:
            return a | by
        case 0x50:
            return a & by
        case 0x60:
            return a << by if by < 32 else 0
        case 0x70:
            return a >> by if by < 32 else 0
        case 0x80:
            return -a
        case 0x90:
            return a % by
        case _:
            return a ^ by


def _holds(operation: int, a: int, with_: int) -> bool:
    return {0x10: a == with_, 0x20: a > with_, 0x30: a >= with_, 0x40: bool(a & with_)}[operation]
