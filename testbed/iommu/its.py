"""An interrupt translation service without a transport: registers, tables, command queue, and events into
LPIs and virtual LPIs.

Reference: ARM IHI 0069 H.b chapters 5 and 6, §12.18 to §12.20. It is given the memory that holds its tables
and queue, the redistributors of the host's processors, and the pages of vCPUs; it owns no socket, thread or
clock. A device signals an event by writing its number to GITS_TRANSLATER; the DeviceID is what the
transport says who wrote, never part of what is written, so a device reaches its own events only.

Advertised capabilities; whatever is not in this table reads as unsupported and cannot be used:

| Capability | Value | Where |
| --- | --- | --- |
| physical LPIs | yes | TYPER.Physical |
| virtual LPIs (GICv4.0) | yes | TYPER.Virtual |
| ITT entry | 16 bytes | TYPER.ITT_entry_size |
| EventIDs | 16 bits | TYPER.ID_bits |
| DeviceIDs | 16 bits | TYPER.Devbits |
| ICIDs | 16 bits | TYPER.CIDbits, TYPER.CIL |
| targets | processor numbers | TYPER.PTA |
| tables | flat and indirect, pages of 4, 16 and 64 KiB | BASER<n> |
| VMOVP | to one ITS | TYPER.VMOVP |
| command errors | skipped or stalled, as configured | CREADR.Stalled |

Not modelled: GICv4.1 (vSGI, default doorbells, INVDB), collections without memory, system errors, MPAM.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from testbed.errors import ItsFault
from testbed.iommu.its_commands import ItsCommands
from testbed.iommu.its_features import ItsFeatures, table_registers, typer
from testbed.iommu.its_queue import ItsCommandQueue, Report
from testbed.iommu.its_redistributor import Redistributor
from testbed.iommu.its_tables import Event, ItsMemory, ItsTables
from testbed.iommu.its_vpes import Backings, Vpes
from testbed.memory.register_file import RegisterFile
from testbed.native import POST_DELIVERED, POST_WAKE, ItsCache, trace
from testbed.spec import its as s
from testbed.spec import lpi
from testbed.spec import trace as events

COMMANDS_A_WRITE: Final = 256
"""Commands that one register write may execute before the caller gets its turn again; `poll` goes on."""
_HOST: Final = -1


class Its:
    """One ITS. Any number of devices signal events; one driver programs it.

    `report` is told of every command in error and of each event that leads nowhere: reason, detail.
    """

    def __init__(
        self,
        memory: ItsMemory,
        redistributors: Sequence[Redistributor],
        backings: Backings = lambda _: None,
        features: ItsFeatures | None = None,
        report: Report = lambda _reason, _detail: None,
        cache: ItsCache | None = None,
        after: Callable[[int], None] = lambda _command: None,
        commands_a_turn: int = COMMANDS_A_WRITE,
    ) -> None:
        """`after` is given each command once it is done; ItsFault where it is in error after all."""
        self.features = features or ItsFeatures(processors=len(redistributors))
        self.cache = cache or ItsCache()
        self.dropped: Counter[str] = Counter()
        """Events that led nowhere, by reason."""
        self._report = report
        self._redistributors = list(redistributors)
        self._types = table_registers(self.features)
        self._bases = dict(self._types)
        self.registers = RegisterFile(s.ITS, narrow_writes=("CBASER", "CWRITER", "BASER"))
        self.tables = ItsTables(memory, self.features, self._table_register)
        self.vpes = Vpes(memory, self.tables, self._redistributors, backings)
        commands = ItsCommands(self.tables, self.cache, self._redistributors, self.vpes, self._signal)

        def execute(command: int) -> None:
            commands.execute(command)
            after(command)

        self._commands_a_turn = commands_a_turn
        self.commands = ItsCommandQueue(self.registers, memory, self.features, execute, report)
        self._post = self.cache.post
        self._bind()
        self.reset()

    @property
    def enabled(self) -> bool:
        """GITS_CTLR.Enabled."""
        return bool(s.CTLR_ENABLED.get(self.registers["CTLR"]))

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.registers.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a processor's store to the register block; GITS_TRANSLATER takes events from devices only."""
        self.registers.write(offset, size_bytes, value)

    def reset(self) -> None:
        """Return to the state after power-on: disabled, nothing remembered."""
        self.registers.reset()
        self.registers["TYPER"] = typer(self.features)
        self._bases = dict(self._types)
        for n in range(s.BASERS):
            self.registers.put("BASER", n, self._bases.get(n, 0))
        self._guard()
        self._forget()

    def poll(self) -> bool:
        """Go on with the command queue; tell whether there is more to do now."""
        return self.commands.consume(self._commands_a_turn) == self._commands_a_turn

    def signal(self, device: int, event: int) -> bool:
        """A device has written `event` to GITS_TRANSLATER; False: it led nowhere (counted, reported)."""
        outcome = self._post(device, event)
        if outcome == POST_DELIVERED:
            return True
        if isinstance(outcome, int):
            return self._led(self._signal, device, event)
        return self.tell(*outcome)

    def tell(self, outcome: int, target: int, doorbell: int) -> bool:
        """Send the one message that a cached interrupt needs; False: it led nowhere (counted, reported)."""
        return self._led(self._tell, outcome, target, doorbell)

    def _led(self, step: Callable[..., None], *arguments: int) -> bool:
        """Do a step; False: the event leads nowhere, which is counted and reported."""
        try:
            step(*arguments)
        except ItsFault as fault:
            self.dropped[fault.reason] += 1
            self._report(f"EVENT_{fault.reason}", fault.detail)
            return False
        return True

    def _tell(self, outcome: int, target: int, doorbell: int) -> None:
        if doorbell == _HOST:
            self._redistributors[target].wake()
        elif outcome == POST_WAKE:
            self.vpes.wake(target)
        else:
            self.vpes.ring_doorbell(target, doorbell)
            if self.vpes.doorbell_port(target, doorbell)[0] is not None:
                self.cache.drop_vpe(target)  # its doorbell is known now: what is filled next rings it itself

    def _signal(self, device: int, event: int) -> None:
        """Translate an event by the tables and make its interrupt pending; ItsFault."""
        if not self.enabled:
            raise ItsFault("DISABLED", "the ITS is not enabled")
        entry = self.tables.event(device, event)
        if entry.virtual:
            self._signal_virtual(device, event, entry)
        else:
            self._signal_physical(device, event, entry)

    def _signal_virtual(self, device: int, event: int, entry: Event) -> None:
        port, number = self.vpes.port(entry.target), self.vpes.number(entry.target, entry.intid)
        if trace:
            trace(events.ITS_VIRTUAL, device, event, entry.intid, entry.target)
        self.vpes.post(entry.target, entry.intid, entry.doorbell)
        bell = self.vpes.doorbell_port(entry.target, entry.doorbell)
        self.cache.fill_virtual(device, event, entry.target, number, port, entry.doorbell, *bell)

    def _signal_physical(self, device: int, event: int, entry: Event) -> None:
        processor = self.tables.collection(entry.target)
        number = entry.intid - lpi.LPI_FIRST
        if not 0 <= number < lpi.HOST_LPIS:
            raise ItsFault("PHYSICALID_OOR", f"there is no LPI {entry.intid}")
        redistributor = self._redistributors[processor]
        if trace:
            trace(events.ITS_PHYSICAL, device, event, entry.intid)
        redistributor.set_pending(entry.intid)
        if redistributor.is_enabled(entry.intid):
            self.cache.fill_physical(device, event, entry.target, number, redistributor.port, processor)

    # registers

    def _bind(self) -> None:
        self.registers.on_write("CTLR", self._write_ctlr)
        self.registers.on_write("CBASER", self._write_cbaser)
        self.registers.on_write("CWRITER", self._write_cwriter)
        self.registers.on_write_each("BASER", self._write_baser)

    def _write_ctlr(self, _value: int) -> None:
        # everything is done when a command or an event has been taken, so a disabled ITS is quiescent at once
        self.registers["CTLR"] = s.CTLR_QUIESCENT.put(not self.enabled, self.registers["CTLR"])
        self._guard()
        self._forget()
        self.poll()

    def _write_cbaser(self, _value: int) -> None:
        if not self.enabled:
            self.registers["CREADR"] = 0  # §12.19.4

    def _write_cwriter(self, value: int) -> None:
        self.registers["CWRITER"] &= ~s.CWRITER_RETRY.mask
        if s.CWRITER_RETRY.get(value):
            self.commands.retry()
        offset = s.QUEUE_OFFSET.get(value) << s.QUEUE_OFFSET.lsb
        if offset >= self.commands.size_bytes:
            self._report("CWRITER_OOR", f"offset {offset:#x} is behind the queue's end")
        self.poll()

    def _write_baser(self, n: int, _value: int) -> None:
        # §12.19.1: type and entry size are read-only; a write while enabled is ignored
        if n in self._types and not self.enabled:
            self._bases[n] = self.registers.get("BASER", n) | self._types[n]
        self.registers.put("BASER", n, self._bases.get(n, 0))

    def _table_register(self, kind: int) -> int:
        return next((base for base in self._bases.values() if s.BASER_TYPE.get(base) == kind), 0)

    def _guard(self) -> None:
        """§12.19.2: the queue's place is read-only while the ITS is enabled."""
        mask = (1 << 64) - 1 if self.enabled else 0
        self.registers.protect("CBASER", mask)

    def _forget(self) -> None:
        self.cache.drop_all()
        self.vpes.drop_all()
