"""The command queue of an ITS: consumed in order between GITS_CREADR and GITS_CWRITER.

Reference: ARM IHI 0069 H.b §5.3 (command queue, command errors), §12.19.2, §12.19.4, §12.19.6. A command in
error is reported with its code and skipped, or the queue stalls at it (CREADR.Stalled) until software writes
CWRITER.Retry: the standard leaves the choice to the implementation, here `ItsFeatures.on_error`. A queue that
is not in memory always stalls: skipping would execute nothing but faults. Not modelled: system errors (SEIS
is 0).
"""

from collections import Counter
from collections.abc import Callable

from testbed.errors import ItsFault, MemoryFault
from testbed.iommu.its_features import ItsFeatures
from testbed.iommu.its_tables import ItsMemory
from testbed.memory.register_file import RegisterFile
from testbed.spec import its as s
from testbed.spec import its_commands as c

Report = Callable[[str, str], None]
"""Told of what software or a device did wrong: reason and detail."""


class ItsCommandQueue:
    """Consumes commands; `executed` and `errors` count them by name."""

    def __init__(
        self,
        registers: RegisterFile,
        memory: ItsMemory,
        features: ItsFeatures,
        execute: Callable[[int], None],
        report: Report,
    ) -> None:
        self._registers, self._memory, self._features = registers, memory, features
        self._execute, self._report = execute, report
        self.executed: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.last_error = 0
        """Code of the last command error."""

    def consume(self, limit: int) -> int:
        """Execute up to `limit` commands; return how many were consumed."""
        done = 0
        while done < limit and self._can_run() and self._step():
            done += 1
        return done

    def retry(self) -> None:
        """Software has mended what the queue stalled at (GITS_CWRITER.Retry)."""
        self._registers["CREADR"] &= ~s.CREADR_STALLED.mask

    def _can_run(self) -> bool:
        enabled = s.CTLR_ENABLED.get(self._registers["CTLR"]) and s.VALID.get(self._registers["CBASER"])
        reader = self._registers["CREADR"]
        if not enabled or s.CREADR_STALLED.get(reader):
            return False
        writer = self._registers["CWRITER"]
        if s.QUEUE_OFFSET.get(writer) * c.COMMAND_BYTES >= self.size_bytes:
            return False  # §12.19.6: behind the queue's end; nothing is executed until it is mended
        return s.QUEUE_OFFSET.get(writer) != s.QUEUE_OFFSET.get(reader)

    @property
    def size_bytes(self) -> int:
        """Size of the queue."""
        return (s.CBASER_SIZE.get(self._registers["CBASER"]) + 1) * s.QUEUE_PAGE_BYTES

    def _step(self) -> bool:
        index = s.QUEUE_OFFSET.get(self._registers["CREADR"])
        base = s.CBASER_ADDRESS.get(self._registers["CBASER"]) << s.CBASER_ADDRESS.lsb
        try:
            image = self._memory.read(base + index * c.COMMAND_BYTES, c.COMMAND_BYTES)
        except MemoryFault as fault:
            self._fail(0, ItsFault("QUEUE_FAULT", fault.detail))
            return self._stall()
        command = int.from_bytes(image, "little")
        try:
            self._execute(command)
        except ItsFault as fault:
            self._fail(c.COMMAND_OPCODE.get(command), fault)
            if self._features.on_error == "stall":
                return self._stall()
        else:
            self.executed[c.COMMAND_NAMES[c.COMMAND_OPCODE.get(command)]] += 1
        following = (index + 1) * c.COMMAND_BYTES % self.size_bytes
        self._registers["CREADR"] = following
        return True

    def _stall(self) -> bool:
        self._registers["CREADR"] |= s.CREADR_STALLED.mask
        return False

    def _fail(self, opcode: int, fault: ItsFault) -> None:
        command = c.COMMAND_NAMES.get(opcode)
        name = f"{command}_{fault.reason}" if command else fault.reason
        self.errors[name] += 1
        self.last_error = c.error_code(opcode, c.ERROR_REASONS.get(fault.reason, 0))
        self._report(name, f"{fault.detail} (code {self.last_error:#08x})")
