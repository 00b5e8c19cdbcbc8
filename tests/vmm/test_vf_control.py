"""Virtual functions shown and changed by control messages, over the PF's driver on a NIC."""

import pytest

from testbed.messages.control import SetVf, ShowVfs, VfChanges, VfSet, VfStates
from testbed.net.mac import format_mac
from testbed.vmm.pf_functions import VfSettings
from testbed.vmm.vf_control import VfControl
from tests.support.pf_machine import VF_MACS, PfMachine


class Rig:
    """Two virtual functions, the first in guest a's hands."""

    def __init__(self) -> None:
        self.machine = PfMachine(VfSettings(mac=VF_MACS[0]), VfSettings(mac=VF_MACS[1]))
        self.answers: list[VfStates | VfSet] = []
        self.control = VfControl(self.answers.append)
        self.control.add(self.machine.driver, {0: "a"})

    def change(self, number: int = 0, nic: str = "nic0", **changes: object) -> str:
        self.control.handle(SetVf(request_id=5, nic=nic, number=number, changes=VfChanges(**changes)))  # type: ignore[arg-type]
        answer = self.answers.pop()
        assert isinstance(answer, VfSet)
        assert answer.request_id == 5
        return answer.refused

    def show(self) -> VfStates:
        self.control.handle(ShowVfs(request_id=6))
        answer = self.answers.pop()
        assert isinstance(answer, VfStates)
        return answer


def test_what_there_is_is_shown() -> None:
    rig = Rig()
    rig.machine.reset_vf(0)
    (nic,) = rig.show().nics
    assert (nic.name, nic.link_up, [vf.guest for vf in nic.vfs]) == ("nic0", True, ["a", ""])
    assert [(vf.mac, vf.running, vf.messages) for vf in nic.vfs] == [
        (format_mac(VF_MACS[0]), True, 1),
        (format_mac(VF_MACS[1]), False, 0),
    ]


def test_only_what_was_asked_for_changes() -> None:
    rig = Rig()
    assert rig.change(vlan=7, trust=True) == ""
    assert rig.change(mac="02:00:00:00:00:77", rate_bits_per_second=10**8) == ""
    settings = rig.machine.driver.vfs[0].settings
    assert settings == VfSettings(bytes.fromhex("020000000077"), 7, 10**8, spoof_check=True, trust=True)
    assert rig.machine.nic.state.rates_bits_per_second[0] == 10**8


def test_a_link_that_is_turned_off_is_shown_so() -> None:
    rig = Rig()
    rig.machine.reset_vf(0)
    assert rig.change(link=False) == ""
    vf = rig.show().nics[0].vfs[0]
    assert (vf.link, vf.running) == (False, False)


@pytest.mark.parametrize(
    ("number", "nic", "changes", "refused"),
    [
        (2, "nic0", {}, "nic0 has VFs 0 to 1, not 2"),
        (-1, "nic0", {}, "nic0 has VFs 0 to 1, not -1"),
        (0, "nic7", {}, "there is no NIC nic7 here"),
        (0, "nic0", {"mac": "no"}, "a MAC address is six hexadecimal bytes"),
        (0, "nic0", {"mac": "01:00:00:00:00:01"}, "no group address"),
        (0, "nic0", {"vlan": 4095}, "1 to 4094"),
        (0, "nic0", {"rate_bits_per_second": 10**10}, "at most 1000000000 bit/s"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    number: int, nic: str, changes: dict[str, object], refused: str
) -> None:
    rig = Rig()
    before = rig.machine.nic.state
    assert refused in rig.change(number, nic, **changes)
    assert rig.machine.nic.state is before


def test_a_host_without_nics_has_none_to_show() -> None:
    answers: list[VfStates | VfSet] = []
    VfControl(answers.append).handle(ShowVfs(request_id=1))
    assert answers == [VfStates(request_id=1, nics=())]
