"""Plays recorded register accesses of Linux's igb and igbvf to a NIC and compares every value that they read.

The format is described at the head of tests/nic/recorded/linux_82576.trace. A read whose values are folded is
compared with all of them. What the recording says in words (MDIC, EEPROM, semaphore) is done as a driver does
it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from testbed.spec import igb, igb_pci, igb_statistics, igb_vf
from testbed.spec.igb import mask
from tests.support.nic_machine import NicMachine

_ACCESS: Final = re.compile(
    r"(?P<who>PF|VF\d) (?P<way>[RW]) (?P<first>0x\w+)(?:\.\.(?P<last>0x\w+))? \S+(?: x(?P<times>\d+))?"
    r" = (?P<values>.*?)(?P<flush> \(flush\))?"
)
_MDIC: Final = re.compile(
    r"PF MDIC phy 1 reg (?P<reg>\d+) .*?(?:read -> (?P<read>0x\w+)|write (?P<write>0x\w+)) .*"
)
_EEPROM: Final = re.compile(r"PF EERD word read: wrote (?P<wrote>0x\w+) got (?P<got>0x\w+) .*")
_SW_FW_PHY: Final = 0x2


class Difference(NamedTuple):
    """A read that gave none of the recorded values."""

    who: str
    name: str
    recorded: int
    read: int


@dataclass
class IgbTrace:
    """A player; `reads` were compared, `differences` found, each once."""

    machine: NicMachine
    reads: int = 0
    differences: list[Difference] = field(default_factory=list)

    def play(self, path: Path, *phases: str) -> None:
        """Play phases of a file."""
        now = ""
        for line in path.read_text().splitlines():
            if line.startswith("phase"):
                now = line.split()[1]
            elif now in phases:
                self._line(line.strip())

    def _line(self, line: str) -> None:
        if access := _ACCESS.fullmatch(line):
            self._access(access)
        elif mdic := _MDIC.fullmatch(line):
            self._mdic(int(mdic["reg"]), mdic["read"], mdic["write"])
        elif eeprom := _EEPROM.fullmatch(line):
            self.machine.wr("EERD", int(eeprom["wrote"], 16))
            self._compare("PF", "EERD", [int(eeprom["got"], 16)], self.machine.rd("EERD"))
        elif line.startswith("wire"):
            self.machine.nic.set_wire(line == "wire up")
        elif line.startswith("vfs"):
            self.machine.enable_vfs(int(line.split()[1]))
        elif line.startswith("PF SEMAPHORE"):
            self._semaphore(acquire="acquire" in line)
        elif line.startswith("PF R statistics"):
            for name in igb_statistics.STATISTICS_NAMES:
                self.machine.rd(name)
        elif line.startswith("VF"):
            assert "statistics" in line, line
            for name, _, _ in igb_statistics.VF_ROWS:
                self.machine.vrd(int(line[2]), name)
        else:
            assert line == "" or line[0] in "#[].", line

    # accesses

    def _access(self, access: re.Match[str]) -> None:
        values = [int(v, 16) for v in access["values"].replace(" ...", "").split(", ")]
        function = 0 if access["who"] == "PF" else int(access["who"][2]) + 1
        places = self._places(access)
        for n, offset in enumerate(places):
            if access["way"] == "W":
                self.machine.nic.write(function, 0, offset, 4, values[min(n, len(values) - 1)])
            else:
                read = self.machine.nic.read(function, 0, offset, 4)
                self._compare(access["who"], _name(function, offset), values, read)
        if access["flush"]:
            self.machine.nic.read(function, 0, igb.REGISTERS["STATUS"].offset, 4)

    @staticmethod
    def _places(access: re.Match[str]) -> Iterator[int]:
        first, times = int(access["first"], 16), int(access["times"] or 1)
        last = int(access["last"] or access["first"], 16)
        step = 0 if first == last else 4 if last > first else -4
        for n in range(times):
            reached = first + n * step
            yield min(reached, last) if step > 0 else max(reached, last)

    def _mdic(self, reg: int, read: str | None, write: str | None) -> None:
        op = igb.MDIC_OP_READ if write is None else igb.MDIC_OP_WRITE
        command = igb.field("MDIC", "OP").put(op) | igb.field("MDIC", "REGADD").put(reg)
        command |= igb.field("MDIC", "PHYADD").put(igb.PHY_ADDRESS) | int(write or "0", 16)
        self.machine.wr("MDIC", command)
        answer = self.machine.rd("MDIC")
        assert answer & mask("MDIC", "R")
        if read is not None:
            self._compare("PF", f"PHY {reg}", [int(read, 16)], answer & 0xFFFF)

    def _semaphore(self, acquire: bool) -> None:
        """Take or give back the right to use the PHY, as igb does."""
        assert not self.machine.rd("SWSM") & mask("SWSM", "SMBI")
        self.machine.wr("SWSM", self.machine.rd("SWSM") | mask("SWSM", "SWESMBI"))
        assert self.machine.rd("SWSM") & mask("SWSM", "SWESMBI")
        held = self.machine.rd("SW_FW_SYNC")
        assert bool(held & _SW_FW_PHY) is not acquire
        self.machine.wr("SW_FW_SYNC", held ^ _SW_FW_PHY)
        self.machine.wr("SWSM", 0)

    def _compare(self, who: str, name: str, recorded: list[int], read: int) -> None:
        self.reads += 1
        if read not in recorded:
            found = Difference(who, name, recorded[0], read)
            if found not in self.differences:
                self.differences.append(found)


def _name(function: int, offset: int) -> str:
    registers = igb_vf.REGISTERS if function else igb.REGISTERS
    found = registers.find(offset if function else igb.queue_address(offset))
    return f"{found[0].name}[{found[1]}]" if found is not None else f"{offset:#x}"


assert igb_pci.REGISTERS_BAR == 0
