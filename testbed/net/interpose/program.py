"""Compiles a filter's tree to classic BPF.

Reference: bpf(4). All jumps go forward: a test is laid out before what it jumps to. A conditional jump
reaches 255 instructions; one that has farther to go gets two unconditional jumps behind it. Not modelled:
optimization; a load that was made before is made again.
"""

from dataclasses import dataclass
from typing import Final

from testbed.errors import ConfigError
from testbed.net.interpose.tree import (
    Arithmetic,
    Binary,
    Both,
    Compare,
    Either,
    Length,
    Load,
    Not,
    Number,
    Operation,
    Relation,
    Test,
)
from testbed.spec import bpf
from testbed.spec.flow import ETHERNET

Instruction = tuple[int, int, int, int]
"""code, jt, jf, k."""
MATCH: Final = 0xFFFF_FFFF
_REACH: Final = 255
_LONG: Final = 3
"""Instructions of a conditional jump that goes far."""
_OPERATIONS: Final[dict[Operation, int]] = {
    "+": bpf.ADD,
    "-": bpf.SUB,
    "*": bpf.MUL,
    "/": bpf.DIV,
    "%": bpf.MOD,
    "&": bpf.AND,
    "|": bpf.OR,
    "^": bpf.XOR,
    "<<": bpf.LSH,
    ">>": bpf.RSH,
}
_SIZES: Final = {1: bpf.B, 2: bpf.H, 4: bpf.W}
_JUMPS: Final[dict[Relation, tuple[int, bool]]] = {
    "=": (bpf.JEQ, True),
    "!=": (bpf.JEQ, False),
    ">": (bpf.JGT, True),
    "<=": (bpf.JGT, False),
    ">=": (bpf.JGE, True),
    "<": (bpf.JGE, False),
}
"""The jump, and whether it is taken where the relation holds."""


@dataclass
class _Jump:
    code: int
    k: int
    true: int
    false: int
    far: bool = False


@dataclass(frozen=True)
class _Label:
    number: int


class _Assembler:
    def __init__(self) -> None:
        self.items: list[Instruction | _Jump | _Label] = []
        self._labels = 0

    def label(self) -> int:
        self._labels += 1
        return self._labels

    def place(self, label: int) -> None:
        self.items.append(_Label(label))

    def emit(self, code: int, k: int = 0) -> None:
        self.items.append((code, 0, 0, k & 0xFFFF_FFFF))

    def test(self, test: Test, true: int, false: int) -> None:
        """Lay out a test that goes on at one of two labels, both placed later."""
        match test:
            case Not(inner):
                self.test(inner, false, true)
            case Both(left, right):
                middle = self.label()
                self.test(left, middle, false)
                self.place(middle)
                self.test(right, true, false)
            case Either(left, right):
                middle = self.label()
                self.test(left, true, middle)
                self.place(middle)
                self.test(right, true, false)
            case Compare():
                self._compare(test, true, false)

    def _compare(self, test: Compare, true: int, false: int) -> None:
        jump, holds = _JUMPS[test.relation]
        source, k = self._operands(test.left, test.right, 0)
        true, false = (true, false) if holds else (false, true)
        self.items.append(_Jump(bpf.JMP | jump | source, k, true, false))

    def _operands(self, left: Arithmetic, right: Arithmetic, depth: int) -> tuple[int, int]:
        """Bring the left operand into A and the right one into k or X; return source and k."""
        if isinstance(right, Number):
            self._value(left, depth)
            return bpf.K, right.value
        if depth == bpf.MEMORY_WORDS:
            raise ConfigError(f"arithmetic must not be nested deeper than {bpf.MEMORY_WORDS}")
        self._value(left, depth)
        self.emit(bpf.ST, depth)
        self._value(right, depth + 1)
        self.emit(bpf.MISC | bpf.TAX)
        self.emit(bpf.LD | bpf.MEM, depth)
        return bpf.X, 0

    def _value(self, value: Arithmetic, depth: int) -> None:
        """Compute a number into A, with the scratch words from `depth` on."""
        match value:
            case Number(number):
                self.emit(bpf.LD | bpf.IMM, number)
            case Length():
                self.emit(bpf.LD | bpf.W | bpf.LEN)
            case Load():
                self._load(value, depth)
            case Binary(operation, left, right):
                source, k = self._operands(left, right, depth)
                self.emit(bpf.ALU | _OPERATIONS[operation] | source, k)

    def _load(self, load: Load, depth: int) -> None:
        size, behind_ipv4 = _SIZES[load.size], load.layer == "ipv4 payload"
        base = load.base + (ETHERNET.size if behind_ipv4 else 0)
        if isinstance(load.offset, Number):
            if behind_ipv4:
                self.emit(bpf.LDX | bpf.B | bpf.MSH, ETHERNET.size)
            mode = bpf.IND if behind_ipv4 else bpf.ABS
            self.emit(bpf.LD | size | mode, base + load.offset.value)
            return
        self._value(load.offset, depth)
        if behind_ipv4:
            self.emit(bpf.LDX | bpf.B | bpf.MSH, ETHERNET.size)
            self.emit(bpf.ALU | bpf.ADD | bpf.X)
        self.emit(bpf.MISC | bpf.TAX)
        self.emit(bpf.LD | size | bpf.IND, base)

    def assemble(self) -> list[Instruction]:
        """Return the program once every jump reaches its target."""
        while True:
            places = self._places()
            far = [j for j in self._jumps() if not j.far and not self._reaches(j, places)]
            if not far:
                return self._instructions(places)
            for jump in far:
                jump.far = True

    def _jumps(self) -> list[_Jump]:
        return [item for item in self.items if isinstance(item, _Jump)]

    def _places(self) -> dict[int, int]:
        """Return where each label is, and where each jump is under its own identity."""
        places, at = {}, 0
        for item in self.items:
            if isinstance(item, _Label):
                places[-item.number] = at
            else:
                places[id(item)] = at
                at += _LONG if isinstance(item, _Jump) and item.far else 1
        return places

    @staticmethod
    def _reaches(jump: _Jump, places: dict[int, int]) -> bool:
        at = places[id(jump)]
        return all(places[-label] - at - 1 <= _REACH for label in (jump.true, jump.false))

    def _instructions(self, places: dict[int, int]) -> list[Instruction]:
        program: list[Instruction] = []
        for item in self.items:
            if isinstance(item, tuple):
                program.append(item)
            elif isinstance(item, _Jump):
                program += self._laid_out(item, len(program), places)
        return program

    @staticmethod
    def _laid_out(jump: _Jump, at: int, places: dict[int, int]) -> list[Instruction]:
        true, false = places[-jump.true], places[-jump.false]
        if not jump.far:
            return [(jump.code, true - at - 1, false - at - 1, jump.k)]
        always = bpf.JMP | bpf.JA
        return [(jump.code, 0, 1, jump.k), (always, 0, 0, true - at - 2), (always, 0, 0, false - at - 3)]


def compile_test(test: Test) -> list[Instruction]:
    """Return the program that returns not 0 for the frames for which a test is true.

    Raises ConfigError where it would be too long or nested too deep.
    """
    assembler = _Assembler()
    true, false = assembler.label(), assembler.label()
    assembler.test(test, true, false)
    assembler.place(true)
    assembler.emit(bpf.RET | bpf.K, MATCH)
    assembler.place(false)
    assembler.emit(bpf.RET | bpf.K, 0)
    program = assembler.assemble()
    if len(program) > bpf.INSTRUCTIONS_MAX:
        most = f"{bpf.INSTRUCTIONS_MAX} instructions"
        raise ConfigError(f"must compile to at most {most}, not {len(program)}: make it shorter")
    return program
