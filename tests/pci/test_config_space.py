"""Configuration spaces of the 82576: recorded accesses, FLR, BAR sizing, SR-IOV, Requester IDs."""

from pathlib import Path

import pytest

from testbed.address import Bdf
from testbed.errors import ConfigError
from testbed.nic.pci_functions import PF_LAYOUT, VF_LAYOUT, pf_bars, vf_bars
from testbed.pci.bars import Bar, Bars, Place
from testbed.pci.config_space import ConfigSpace
from testbed.pci.msix import Msix
from testbed.pci.sriov import Sriov
from testbed.spec import igb_pci, pci
from tests.support.config_trace import Difference, play

RECORDED = Path(__file__).parent / "recorded"
SRIOV = igb_pci.SRIOV


class Pf:
    """A physical function's configuration space, alone."""

    def __init__(self) -> None:
        self.flrs = 0
        self.vfs: list[int] = []
        self.sent: list[tuple[int, int]] = []
        self.msix = Msix(10, igb_pci.PBA_OFFSET, lambda address, data: self.sent.append((address, data)))
        self.space = ConfigSpace(PF_LAYOUT, Bdf(0x0100), pf_bars(), self.msix, self._flr)
        self.sriov = Sriov(self.space, vf_bars(), self.vfs.append)

    def _flr(self) -> None:
        self.flrs += 1
        self.sriov.reset()

    def enable(self, vfs: int) -> None:
        """Do what a driver does for VFs at FEA0_0000h and FEA2_0000h."""
        self.space.write(SRIOV + 0x24, 4, 0xFEA0_0000)
        self.space.write(SRIOV + 0x30, 4, 0xFEA2_0000)
        self.space.write(SRIOV + 0x10, 2, vfs)
        self.space.write(SRIOV + 0x08, 2, 0x19)


def vf_space() -> ConfigSpace:
    return ConfigSpace(VF_LAYOUT, Bdf(0x0180), Bars(), Msix(3, igb_pci.PBA_OFFSET, _never), lambda: None)


def _never(_address: int, _data: int) -> None:
    raise AssertionError("nothing was signalled")


def test_what_linux_reads_while_it_boots_is_what_it_read() -> None:
    reads, differences = play(Pf().space, RECORDED / "linux_82576_pf.trace", "boot")
    assert (differences, reads > 30) == ([], True)


PROBE_DEPARTURES = {
    Difference(0x014, 0xFE620000, 0): "no Flash BAR",
    Difference(0x018, 0xC001, 0): "no I/O BAR",
    Difference(0x02C, 0x11001AF4, 0x8086): "the card is Intel's own",
    Difference(0x03C, 0x10A, 0): "no INTx pin; the line is what software writes",
    Difference(0x03D, 0x1, 0): "no INTx pin",
    Difference(0x040, 0x5001, 0x7001): "no MSI capability in between",
    Difference(0x050, 0x7005, 0): "no MSI capability",
    Difference(0x0A8, 0x0, 0xF): "§7.5.3.4: error reporting enables keep what is written",
}


def test_what_igb_reads_when_it_probes_is_what_it_read_but_for_what_is_not_modelled() -> None:
    space = Pf().space
    space.write(0x04, 2, 0x103)
    space.write(0x10, 4, 0xFE60_0000)
    space.write(0x1C, 4, 0xFE64_0000)
    space.write(SRIOV + 0x08, 2, 0x10)
    reads, differences = play(space, RECORDED / "linux_82576_pf.trace", "probe")
    assert (set(differences), reads > 60) == (set(PROBE_DEPARTURES), True)


def test_creating_and_removing_two_vfs_as_recorded() -> None:
    pf = Pf()
    pf.space.write(0x04, 2, 0x507)
    pf.space.write(0x72, 2, 0x8000)
    path = RECORDED / "linux_82576_pf.trace"
    assert play(pf.space, path, "vf_create")[1] == []
    assert pf.vfs == [2]
    assert play(pf.space, path, "vf_destroy")[1] == []
    assert pf.vfs == [2, 0]


VF_DEPARTURES = {
    Difference(0x02C, 0x1AF4, 0x8086): "the card is Intel's own",
    Difference(0x02E, 0x1100, 0): "the same",
    Difference(0x0C4, 0x300000, 0): "no end-to-end TLP prefixes in an 82576",
    Difference(0x004, 0x400, 0): "§9.3.4.1.3: INTx disable is read only zero in a VF",
    Difference(0x004, 0x2, 0): "§9.3.4.1.3: so is memory space enable",
    Difference(0x004, 0x6, 0x4): "the same",
}


def test_a_vf_is_what_linux_met_but_for_command_bits_that_a_vf_does_not_have() -> None:
    space = vf_space()
    path = RECORDED / "linux_82576_vf.trace"
    first, created = play(space, path, "vf_create_vf")
    second, probed = play(space, path, "probe")
    assert (set(created + probed), first + second > 20) == (set(VF_DEPARTURES), True)
    assert space.read(0x00, 4) == 0xFFFF_FFFF


def test_memory_bars_show_their_sizes() -> None:
    space = Pf().space
    for index in range(6):
        space.write(0x10 + 4 * index, 4, 0xFFFF_FFFF)
    sizes = [space.read(0x10 + 4 * index, 4) for index in range(6)]
    assert sizes == [0xFFFE_0000, 0, 0, 0xFFFF_C004, 0xFFFF_FFFF, 0]


@pytest.mark.parametrize(
    ("address", "length", "place"),
    [
        (0xFEA0_0000, 4, Place(0, 0, 0)),
        (0xFEA0_7FFC, 4, Place(0, 0x3FFC, 1)),
        (0xFEA2_4010, 4, Place(3, 0x10, 1)),
        (0xFEA0_8000, 4, None),
        (0xFEA0_3FFE, 4, None),
        (0xFE9F_FFFC, 4, None),
    ],
)
def test_an_address_is_in_the_bar_of_the_vf_that_it_belongs_to(
    address: int, length: int, place: Place | None
) -> None:
    pf = Pf()
    pf.enable(2)
    assert pf.sriov.find(address, length) == place


def test_no_vf_answers_before_memory_space_is_enabled() -> None:
    pf = Pf()
    pf.enable(2)
    pf.space.write(SRIOV + 0x08, 2, 0x11)
    assert (pf.sriov.vfs, pf.sriov.find(0xFEA0_0000, 4)) == (2, None)


def test_requester_ids_are_offset_128_and_stride_2_behind_the_pf() -> None:
    pf = Pf()
    pf.enable(8)
    assert [pf.sriov.requester_id(vf) for vf in range(8)] == [0x180 + 2 * vf for vf in range(8)]


def test_migration_of_vfs_is_not_offered_and_cannot_be_enabled() -> None:
    space = Pf().space
    assert (space.read(SRIOV + 0x04, 4), space.read(SRIOV + 0x3C, 4)) == (0, 0)
    space.write(SRIOV + 0x08, 2, 0xFFFF)
    assert space.read(SRIOV + 0x08, 2) & 0b110 == 0  # VF Migration Enable, its interrupt
    assert space.read(SRIOV + 0x0A, 2) == 0


@pytest.mark.parametrize("vfs", [9, 255, 0xFFFF])
def test_more_vfs_than_there_are_stay_unwritten(vfs: int) -> None:
    pf = Pf()
    pf.space.write(SRIOV + 0x10, 2, 3)
    pf.space.write(SRIOV + 0x10, 2, vfs)
    assert pf.space.read(SRIOV + 0x10, 2) == 3


def test_the_number_of_vfs_stays_while_they_are_enabled() -> None:
    pf = Pf()
    pf.enable(2)
    pf.space.write(SRIOV + 0x10, 2, 5)
    assert (pf.space.read(SRIOV + 0x10, 2), pf.vfs) == (2, [2])


def test_a_system_page_size_that_is_not_supported_is_not_taken() -> None:
    space = Pf().space
    space.write(SRIOV + 0x20, 4, 0x10)
    assert space.read(SRIOV + 0x20, 4) == 0x10
    for wrong in (0x4, 0x11, 0):
        space.write(SRIOV + 0x20, 4, wrong)
        assert space.read(SRIOV + 0x20, 4) == 1


def test_a_function_level_reset_forgets_addresses_masks_and_vfs() -> None:
    pf = Pf()
    fresh = [pf.space.read(offset, 4) for offset in range(0, 0x1A0, 4)]
    pf.enable(4)
    pf.space.write(0x04, 2, 0x507)
    pf.space.write(0x10, 4, 0xFE60_0000)
    pf.space.write(0x72, 2, 0x8000)
    pf.space.write(igb_pci.EXPRESS + 0x08, 2, 0x8000)
    assert (pf.flrs, pf.vfs) == (1, [4, 0])
    assert [pf.space.read(offset, 4) for offset in range(0, 0x1A0, 4)] == fresh


def test_status_bits_are_written_by_nobody_and_capabilities_stay() -> None:
    space = Pf().space
    space.write(0x06, 2, 0xFFFF)
    assert space.read(0x06, 2) == 0x10


def test_byte_accesses_reach_parts_of_registers() -> None:
    space = Pf().space
    space.write(0x05, 1, 0x05)
    assert (space.read(0x04, 2), space.read(0x05, 1)) == (0x500, 0x05)


@pytest.mark.parametrize("bars", [(Bar(0, 16, wide=True), Bar(1, 16)), (Bar(2, 16), Bar(2, 32))])
def test_bars_that_share_a_register_are_refused(bars: tuple[Bar, ...]) -> None:
    with pytest.raises(ConfigError, match="share a register"):
        Bars(*bars)


@pytest.mark.parametrize(
    ("index", "size", "wide"), [(0, 8, False), (0, 48, False), (5, 16, True), (6, 16, False)]
)
def test_a_bar_that_no_register_can_express_is_refused(index: int, size: int, wide: bool) -> None:
    with pytest.raises(ConfigError, match="BAR"):
        Bar(index, size, wide)


def test_every_capability_of_both_chains_is_reached() -> None:
    space = Pf().space
    classic, at = [], space.read(0x34, 1)
    while at:
        classic.append((at, space.read(at, 1)))
        at = space.read(at + 1, 1)
    extended, at = [], pci.EXTENDED_BEGIN
    while at:
        extended.append((at, space.read(at, 2)))
        at = space.read(at, 4) >> 20
    assert classic == [(0x40, 0x01), (0x70, 0x11), (0xA0, 0x10)]
    assert extended == [(0x100, 0x01), (0x150, 0x0E), (0x160, 0x10)]
