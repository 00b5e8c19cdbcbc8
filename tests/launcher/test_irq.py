"""Tables of interrupts as a person sees them."""

from rich.console import Console

from launcher.irq import irq_view
from launcher.service import InterruptStatus
from testbed.messages.control import EventRoute, ListRegister, VcpuInterrupts


def test_tables_name_every_vcpu_and_route() -> None:
    listed = ListRegister(intid=40, state="active", priority=0xA0, group=1)
    vcpu = VcpuInterrupts(
        guest="c", vcpu=1, way="direct", running=True, resident=0, pending=(8192,), list_registers=(listed,),
        active_priorities=(0xA0,),
    )  # fmt: skip
    direct = EventRoute(device=0x180, event=2, virtual=True, intid=8192, target=4, processor=0, doorbell=8200)
    lost = EventRoute(device=0x180, event=3, virtual=False, intid=8193, target=0)
    status = InterruptStatus({"c": {"interrupts.vf": 1234}}, (vcpu,), {"iommu-h0": (direct, lost)})
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(irq_view(status))
    text = captured.get()

    assert "1,234" in text
    assert "running, resident on 0" in text
    assert "40 active 0xa0" in text
    assert "virtual LPI 8192 of vPE 4, processor 0" in text
    assert "LPI 8193 of collection 0, not mapped" in text
