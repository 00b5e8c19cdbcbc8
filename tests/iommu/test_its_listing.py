"""What people are shown of an ITS's tables."""

from testbed.iommu.its_listing import listed_routes
from testbed.messages.control import EventRoute
from tests.iommu.its_machine import DEVICES, LEVEL2, LPI, QUEUE, VLPI, ItsMachine

DEVICE = 0x180


def test_every_mapped_event_is_listed_with_where_it_leads() -> None:
    machine = ItsMachine().enable()
    machine.mapd(DEVICE)
    machine.mapc(0, 1)
    machine.vmapp(2)
    machine.mapti(DEVICE, 3, LPI + 9)
    machine.mapti(DEVICE, 4, LPI, icid=7)
    machine.vmapti(DEVICE, 5, 2, VLPI + 1, LPI + 20)
    machine.vmapti(DEVICE, 6, 1, VLPI)

    assert list(listed_routes(machine.its)) == [
        EventRoute(device=DEVICE, event=3, virtual=False, intid=LPI + 9, target=0, processor=1),
        EventRoute(device=DEVICE, event=4, virtual=False, intid=LPI, target=7),
        EventRoute(
            device=DEVICE, event=5, virtual=True, intid=VLPI + 1, target=2, processor=0, doorbell=LPI + 20
        ),
        EventRoute(device=DEVICE, event=6, virtual=True, intid=VLPI, target=1),
    ]


def test_indirect_table_and_rubbish_are_listed_within_bounds() -> None:
    machine = ItsMachine()
    machine.write("BASER", 1 << 63 | 1 << 62 | DEVICES, 0)
    machine.write("CBASER", 1 << 63 | QUEUE)
    machine.write("CTLR", 1)
    machine.memory.store(DEVICES + 8, 8, 1 << 63 | LEVEL2)
    machine.memory.store(DEVICES + 16, 8, 1 << 63 | 1 << 50)  # leads nowhere
    machine.memory.write(LEVEL2, b"\xff" * 4096)

    assert list(listed_routes(machine.its)) == []  # ITTs that lead nowhere


def test_its_without_tables_has_nothing_to_list() -> None:
    assert list(listed_routes(ItsMachine().its)) == []
