"""A guest that abuses its interrupt controller harms nobody: rubbish in registers and page, storms."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.spec import gic
from testbed.spec import gic_registers as reg
from tests.support.vgic_rig import PAGE, VgicRig

WORDS = st.integers(0, (1 << 64) - 1)
MEMBERS = st.sampled_from(["ich_lr", "ich_hcr", "ich_vmcr", "ich_ap1r"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.sampled_from([1, 2, 4, 8]), WORDS), max_size=40))
def test_rubbish_to_registers_is_taken_or_ignored(accesses: list[tuple[int, int, int]]) -> None:
    rig = VgicRig(2)
    for offset, size_bytes, value in accesses:
        mask = (1 << 8 * size_bytes) - 1
        for device, frames in ((rig.distributor, 1), (rig.redistributors[0], 2)):
            for frame in range(frames):
                at = frame * reg.FRAME_BYTES + offset
                device.write(at, size_bytes, value & mask)
                assert 0 <= device.read(at, size_bytes) <= mask
        rig.exit(0)
        rig.exit(1)
    assert rig.faults.reasons == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["ich_lr", "ich_hcr", "ich_vmcr", "ich_ap1r"]), WORDS), max_size=20)
)
def test_rubbish_in_the_page_stays_there(writes: list[tuple[str, int]]) -> None:
    rig = VgicRig()
    cpu, vgic = rig.vcpus[0], rig.vgic
    vgic.spis.edge = vgic.spis.enabled = vgic.spis.group1 = vgic.spis.everything
    for step, (member, value) in enumerate(writes):
        vgic.pulse(32 + step)
        rig.exit()
        if member == "ich_lr":
            cpu.words.store64(PAGE.offset(member, step % gic.LIST_REGISTERS), value)
        else:
            cpu.words.store32(PAGE.offset(member), value & 0xFFFF_FFFF)
        rig.exit()
    assert vgic.spis.active & ~vgic.spis.everything == 0
    assert set(rig.faults.reasons) <= {"bad_list_register"}


def test_list_register_that_was_changed_is_reported() -> None:
    rig = VgicRig()
    spis = rig.vgic.spis
    spis.edge = spis.enabled = spis.group1 = spis.everything
    rig.vgic.pulse(40)
    rig.settle()
    rig.vcpus[0].words.store64(PAGE.offset("ich_lr"), 41 | 1 << 63)
    rig.exit()
    assert (rig.faults.reasons, rig.vgic.state(spis)) == (["bad_list_register"], (0, 0))


def test_guest_that_never_ends_an_interrupt_costs_one_bell_and_no_more() -> None:
    rig = VgicRig()
    spis = rig.vgic.spis
    spis.edge = spis.enabled = spis.group1 = spis.everything
    rig.vgic.pulse(32)
    rig.settle()
    assert rig.acknowledge() == 32
    asked = rig.vcpus[0].bell.asked
    for _ in range(100):
        for intid in range(32, 132):
            rig.vgic.pulse(intid)
    assert rig.vcpus[0].bell.asked == asked + 1
    rig.exit()
    assert rig.acknowledge() == gic.SPURIOUS


def test_sgi_storm_of_one_vcpu_leaves_another_its_own_interrupts() -> None:
    rig, rng = VgicRig(3), random.Random(5)
    for cpu in rig.vgic.cpus:
        cpu.private.enabled = cpu.private.group1 = cpu.private.everything
    for _ in range(2000):
        with rig.out(0) as sender:
            sender.send_sgi(rng.getrandbits(64) & ~(0xFF << 16 | 0xFF << 32 | 0xFFFF << 44) & ~0xC)
    assert not rig.vcpus[2].cpu.must_exit or rig.vgic.cpus[2].private.latched
    with rig.out(1) as sender:
        sender.send_sgi(gic.SGI_INTID.put(9) | 1 << 2)
    rig.settle()
    assert 9 in rig.take_all(2)


def test_hostile_every_spi_active_at_once_is_kept_in_no_longer_list_than_eoicount_can_tell_of() -> None:
    """What every further exit costs is then bounded: EOIcount has five bits (IHI 0069 §12.4, ICH_HCR_EL2)."""
    rig, everything = VgicRig(2), (1 << 988) - 1
    for word in range(1, 32):
        rig.distributor.write(reg.GICD["ISACTIVER"].at(word), 4, 0xFFFF_FFFF)
    rig.settle()
    cpus = rig.vgic.cpus
    assert (rig.vgic.state(rig.vgic.spis)[1], cpus[0].held_spis) == (everything, everything)
    assert (len(cpus[0].slots), len(cpus[0].spilled), cpus[1].held_spis) == (4, 31, 0)
    for word in range(1, 32):
        rig.distributor.write(reg.GICD["ICACTIVER"].at(word), 4, 0xFFFF_FFFF)
    rig.settle()
    assert (rig.vgic.state(rig.vgic.spis)[1], cpus[0].held_spis, cpus[0].spilled) == (0, 0, [])
