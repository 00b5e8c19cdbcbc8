"""Tables of interrupts as a person sees them."""

from rich.console import Console

from launcher.irq import irq_view
from launcher.service import InterruptStatus
from testbed.messages.control import EventRoute, ListRegister, VcpuInterrupts


def test_tables_name_every_vcpu_and_route() -> None:
    listed = ListRegister(intid=40, state="active", priority=0xA0, group=1)
    vcpu = VcpuInterrupts(
        guest="c", vcpu=1, way="direct", running=True, resident=0, pending=(8192,), list_registers=(listed,),
        active_priorities=(0xA0,), waiting=tuple(range(32, 42)), disabled=(27,), active=(50,),
    )  # fmt: skip
    direct = EventRoute(
        device=0x180, event=2, virtual=True, intid=8192, target=4, processor=0, doorbell=8200,
        function="nic0.vf0", vcpu="c",
    )  # fmt: skip
    lost = EventRoute(device=0x180, event=3, virtual=False, intid=8193, target=0)
    counted = {"interrupts.vf": 1234, "interrupts.virtio": 5, "vcpu1.interrupts.vf": 9, "vcpu1.exits.irq": 3}
    counters = {"c": counted, "iommu-h0": {"its.hits": 77}}
    status = InterruptStatus(counters, (vcpu,), {"iommu-h0": (direct, lost)})
    console = Console(width=80)
    with console.capture() as captured:
        console.print(irq_view(status))
    text = captured.get()
    words = " ".join(text.split())

    assert "c.0 vf direct 1,234 virtio list-registers 5 c.1 vf direct 9" in words
    assert "c vcpu1.exits.irq 3" in words
    assert "iommu-h0 its.hits 77" in words
    assert "c.1 running 40 active 0xa0 32 33 34 35 36 37 and 50 8192 0xa0" in words
    assert "resident on 0 5 more" in words
    assert "nic0.vf0 0x0180 2 vLPI 8192 of vPE 4 (c), processor 0 8200" in words
    assert "LPI 8193 of collection 0, not mapped" in words
    assert max(map(len, text.splitlines())) <= 80
