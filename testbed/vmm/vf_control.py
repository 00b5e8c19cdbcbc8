"""Shows and changes the settings of virtual functions while a topology runs, for whoever operates it.

Reference: `ip link show DEV` and `ip link set DEV vf N` of ip-link(8), by the messages of
`testbed.messages.control`. Not modelled: the number of virtual functions changing.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from testbed.errors import ConfigError
from testbed.messages.control import NicState, SetVf, ShowVfs, VfChanges, VfSet, VfState, VfStates
from testbed.net.mac import format_mac, parse_mac
from testbed.observe.catalogue import FUNCTION_COUNTERS
from testbed.observe.counters import Counters
from testbed.vmm.pf_driver import PfDriver
from testbed.vmm.pf_functions import Vf, VfSettings


class VfControl:
    """The virtual functions of one host's NICs; `send` answers the operator."""

    def __init__(self, send: Callable[[VfStates | VfSet], None]) -> None:
        self._send = send
        self._drivers: dict[str, PfDriver] = {}
        self._guests: dict[str, Mapping[int, str]] = {}

    def add(self, driver: PfDriver, guests: Mapping[int, str]) -> None:
        """Take a NIC; `guests` are those that have its virtual functions, by number."""
        self._drivers[driver.config.name] = driver
        self._guests[driver.config.name] = guests

    def handle(self, message: ShowVfs | SetVf) -> None:
        """Do what the operator asks, and answer."""
        match message:
            case ShowVfs():
                self._send(VfStates(request_id=message.request_id, nics=self.states()))
            case SetVf():
                self._send(VfSet(request_id=message.request_id, refused=self._set(message)))

    def states(self) -> tuple[NicState, ...]:
        """Return every NIC as it is now."""
        return tuple(
            NicState(
                name=name,
                link_up=driver.link_up,
                vfs=tuple(_state(vf, self._guests[name].get(vf.number, "")) for vf in driver.vfs),
            )
            for name, driver in self._drivers.items()
        )

    def count(self, counters: Counters) -> None:
        """Publish what the functions did."""
        for name, driver in self._drivers.items():
            for vf in driver.vfs:
                for each in FUNCTION_COUNTERS:
                    counters.set(f"{name}.vf{vf.number}.{each}", getattr(vf.counts, each))

    def _set(self, message: SetVf) -> str:
        """Change settings; return why not, or nothing."""
        driver = self._drivers.get(message.nic)
        if driver is None:
            return f"there is no NIC {message.nic} here"
        if driver.gone:
            return f"{message.nic} is gone, with all its functions; start the topology again"
        if not 0 <= message.number < len(driver.vfs):
            return f"{message.nic} has VFs 0 to {len(driver.vfs) - 1}, not {message.number}"
        try:
            settings = changed(driver.vfs[message.number].settings, message.changes)
            driver.configure(message.number, settings)
        except ConfigError as error:
            return error.problems[0]
        return ""


def changed(settings: VfSettings, changes: VfChanges) -> VfSettings:
    """Return settings with what is given in `changes`. ConfigError for what is no address."""
    given = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not None
    }
    if changes.mac is not None:
        given["mac"] = parse_mac(changes.mac)
    return replace(settings, **given)


def _state(vf: Vf, guest: str) -> VfState:
    settings, counts = vf.settings, vf.counts
    return VfState(
        number=vf.number,
        guest=guest,
        mac=format_mac(vf.mac),
        vlan=settings.vlan,
        rate_bits_per_second=settings.rate_bits_per_second,
        spoof_check=settings.spoof_check,
        trust=settings.trust,
        drop=settings.drop,
        link=settings.link,
        running=vf.running,
        resets=counts.resets,
        messages=counts.messages,
        refused=counts.refused,
        throttled=counts.throttled,
        spoof_events=counts.spoof_events,
    )
