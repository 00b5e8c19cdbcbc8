"""Classic BPF: the instruction codes of a packet filter's virtual machine.

Reference: McCanne and Jacobson, "The BSD Packet Filter" (USENIX Winter 1993), table 2, with the values of
bpf(4); MOD and XOR as libpcap and Linux have them. An instruction is 64 bits: code, jt, jf, k. A code is a
class (bits 0-2) with either a size and a mode (loads) or an operation and a source.
"""

from typing import Final

from testbed.spec.layout import Field, Record

INSTRUCTION: Final = Record(
    "bpf_instruction", 8, "bpf(4), struct bpf_insn",
    Field("code", 0, 2), Field("jt", 2, 1), Field("jf", 3, 1), Field("k", 4, 4),
)  # fmt: skip

# classes
LD: Final = 0x00
LDX: Final = 0x01
ST: Final = 0x02
STX: Final = 0x03
ALU: Final = 0x04
JMP: Final = 0x05
RET: Final = 0x06
MISC: Final = 0x07
# sizes of a load
W: Final = 0x00
H: Final = 0x08
B: Final = 0x10
# modes of a load
IMM: Final = 0x00
ABS: Final = 0x20
IND: Final = 0x40
MEM: Final = 0x60
LEN: Final = 0x80
MSH: Final = 0xA0
# operations of ALU
ADD: Final = 0x00
SUB: Final = 0x10
MUL: Final = 0x20
DIV: Final = 0x30
OR: Final = 0x40
AND: Final = 0x50
LSH: Final = 0x60
RSH: Final = 0x70
NEG: Final = 0x80
MOD: Final = 0x90
XOR: Final = 0xA0
# operations of JMP
JA: Final = 0x00
JEQ: Final = 0x10
JGT: Final = 0x20
JGE: Final = 0x30
JSET: Final = 0x40
# sources
K: Final = 0x00
X: Final = 0x08
# what RET returns, besides K
A: Final = 0x10
# operations of MISC
TAX: Final = 0x00
TXA: Final = 0x80

MEMORY_WORDS: Final = 16
"""Scratch words M[]."""
INSTRUCTIONS_MAX: Final = 4096
"""BPF_MAXINSNS of Linux."""
