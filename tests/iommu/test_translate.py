"""Translation through both stages, and what a fault becomes."""

import pytest

from testbed.iommu.events import Request
from testbed.iommu.transactions import Aborted
from testbed.iommu.translate import Granted
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import page_table as pt
from testbed.spec import smmu as s
from testbed.spec.layout import Bits
from tests.iommu.machine import ASID, GUEST, PAGE, RAM, RAM_BYTES, Machine, request

IOVA = 0x7000_0000_0000
CD = 0x1000
S1_TABLES = 0x10_0000


class Nested:
    """A stream translated by both stages: the guest's structures and stage-1 tables are in its own RAM."""

    def __init__(self, *more: tuple[Bits, int]) -> None:
        self.machine = Machine()
        self.machine.enable()
        self.stage2 = self.machine.stage2_tables()
        self.guest = GuestMemory(self.machine.memory, self.stage2.root)
        frames = FrameAllocator(self.guest, GUEST + S1_TABLES, 64 * PAGE)
        self.stage1 = TableBuilder(self.guest, frames, 1)
        self.machine.nested(1, GUEST + CD, self.stage2.root)
        self.context(*more)

    def context(self, *more: tuple[Bits, int]) -> None:
        """Write the guest's CD."""
        self.machine.context(self.stage1.root, *more, at=RAM + CD)

    def output(self, address: int, write: bool = False, privileged: bool = False) -> int | None:
        """Return where an access comes out, None where it is refused."""
        answer = self.machine.translate(Request(1, address, write, None, privileged))
        return answer.output if isinstance(answer, Granted) else None

    def fault(self, address: int, write: bool = False) -> dict[str, int]:
        """Return the fields of the one record that an access leaves."""
        assert self.output(address, write) is None
        [record] = self.machine.events()
        return {
            "code": record & 0xFF,
            "s2": record >> 103 & 1,
            "class": record >> 104 & 3,
            "address": record >> 128 & (1 << 64) - 1,
            "ipa": record >> 204 << 12,
        }


def test_both_stages_are_walked() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST + 0x20_0000, 3 * PAGE)

    assert nested.output(IOVA + PAGE + 5) == RAM + 0x20_1005


def test_stage1_fault_names_the_input_address_only() -> None:
    nested = Nested()

    assert nested.fault(IOVA) == {"code": 0x10, "s2": 0, "class": 2, "address": IOVA, "ipa": 0}


def test_stage2_fault_names_the_ipa() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, 0x9_0000_0000, PAGE)

    expected = {"code": 0x10, "s2": 1, "class": 2, "address": IOVA + 8, "ipa": 0x9_0000_0000}
    assert nested.fault(IOVA + 8) == expected


def test_write_to_a_page_that_stage2_protects() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST + 0x20_0000, PAGE)
    nested.stage2.protect(GUEST + 0x20_0000, PAGE, Attributes(write=False))

    assert nested.output(IOVA) == RAM + 0x20_0000
    expected = {"code": 0x13, "s2": 1, "class": 2, "address": IOVA, "ipa": GUEST + 0x20_0000}
    assert nested.fault(IOVA, write=True) == expected


def test_write_to_a_page_that_stage1_protects() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST + 0x20_0000, PAGE, Attributes(write=False))

    expected = {"code": 0x13, "s2": 0, "class": 2, "address": IOVA, "ipa": 0}
    assert nested.fault(IOVA, write=True) == expected


def test_stage1_table_that_stage2_does_not_map_is_of_class_ttd() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST, PAGE)
    nested.guest.store(nested.stage1.root + ((IOVA >> 39) & 511) * 8, 8, 0x9_0000_0003)

    expected = {"code": 0x10, "s2": 1, "class": 1, "address": IOVA, "ipa": 0x9_0000_0000}
    assert nested.fault(IOVA) == expected


def test_table_outside_memory_is_a_walk_abort_with_its_address() -> None:
    nested = Nested()
    nested.stage2.map(0x9_0000_0000, RAM + RAM_BYTES, PAGE)
    nested.guest.store(nested.stage1.root + ((IOVA >> 39) & 511) * 8, 8, 0x9_0000_0003)

    assert nested.output(IOVA) is None
    [record] = nested.machine.events()
    assert (record & 0xFF, record >> 103 & 1, record >> 104 & 3) == (0x0B, 0, 1)
    assert record >> 195 << 3 == RAM + RAM_BYTES


def test_faults_without_r_are_silent() -> None:
    nested = Nested((s.CD_R, 0))

    assert nested.machine.translate(request(IOVA)) == Aborted(None)
    assert nested.machine.events() == []


def test_access_flag_fault_can_be_disabled() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST, PAGE)
    leaf = GUEST + S1_TABLES + 3 * PAGE
    nested.guest.store(leaf, 8, nested.guest.load(leaf, 8) & ~pt.AF.mask)

    assert nested.fault(IOVA)["code"] == 0x12
    nested.context((s.CD_AFFD, 1))
    nested.machine.smmu.cache.drop_streams(1, 1)
    assert nested.output(IOVA) == RAM


def test_unprivileged_access_needs_ap1() -> None:
    nested = Nested()
    nested.stage1.map(IOVA, GUEST, PAGE, Attributes(unprivileged=False))

    assert nested.output(IOVA, privileged=True) == RAM
    assert nested.output(IOVA) is None


def _two_halves(*more: tuple[Bits, int]) -> Nested:
    nested = Nested()
    upper = TableBuilder(nested.guest, FrameAllocator(nested.guest, GUEST + 0x30_0000, 16 * PAGE), 1)
    upper.map(0xFFFF_F000_0000, GUEST + 0x7000, PAGE)
    nested.stage1.map(0x5000, GUEST + 0x6000, PAGE)
    nested.context(
        (s.CD_EPD1, 0), (s.CD_T1SZ, 16), (s.CD_TG1, 2), (s.CD_TTB1, upper.root >> 4), *more
    )  # fmt: skip
    return nested


UPPER = 0xFFFF_FFFF_F000_0000


def test_bit_55_chooses_the_table() -> None:
    nested = _two_halves()

    assert nested.output(0x5008) == RAM + 0x6008
    assert nested.output(UPPER + 8) == RAM + 0x7008
    assert nested.output(UPPER + 8) == RAM + 0x7008, "again, from the cache"


@pytest.mark.parametrize("address", [0x0001_0000_0000_5000, 0xFF00_0000_0000_5000, 0xFFFE_FFFF_F000_0000])
def test_address_between_the_halves_is_a_translation_fault(address: int) -> None:
    nested = _two_halves()

    assert nested.fault(address) == {"code": 0x10, "s2": 0, "class": 2, "address": address, "ipa": 0}


def test_top_byte_can_be_ignored_for_either_half() -> None:
    nested = _two_halves((s.CD_TBI0, 1), (s.CD_TBI1, 1))

    assert nested.output(0xAB00_0000_0000_5008) == RAM + 0x6008
    assert nested.output(0xAB00_0000_0000_5008) == RAM + 0x6008, "again, from the cache"
    assert nested.output(UPPER & ~(0xFF << 56) | 0x12 << 56) == RAM + 0x7000


def test_disabled_half_is_a_translation_fault() -> None:
    nested = Nested((s.CD_EPD0, 1))

    assert nested.fault(0x5000)["code"] == 0x10


def test_stage2_only_address_beyond_48_bits_is_an_address_size_fault_of_stage1() -> None:
    machine = Machine()
    machine.enable()
    machine.stage2(1, machine.stage2_tables().root)

    machine.translate(request(1 << 48 | GUEST))

    [record] = machine.events()
    assert (record & 0xFF, record >> 103 & 1) == (0x11, 0)


def test_output_beyond_ips_is_an_address_size_fault() -> None:
    nested = Nested((s.CD_IPS, 0))
    nested.stage1.map(IOVA, 1 << 32, PAGE)

    assert nested.fault(IOVA)["code"] == 0x11


def test_asid_and_vmid_come_from_cd_and_ste() -> None:
    nested = Nested()
    nested.output(IOVA)

    configuration = nested.machine.smmu.cache.configuration(request(IOVA))
    assert configuration is not None
    assert (configuration.asid, configuration.entry.vmid) == (ASID, 7)
