"""Interrupts while vPEs come, go and move: none lost, none twice. The scheduler is a second process."""

import mmap
import random
from typing import Final

from testbed.native import Pinned, SharedWords, VpePort
from testbed.spec import its_commands as c
from testbed.spec.vcpu_page import VCPU_PAGE
from tests.iommu.its_machine import LPI, MEMORY_BYTES, VLPI, ItsMachine
from tests.support.beside import beside

SIGNALS: Final = 200_000
EVENTS: Final = 32
DEVICE: Final = 0x180
VPES: Final = 2


def build() -> tuple[ItsMachine, SharedWords]:
    """Return a machine in memory that a forked process shares, and a word that stops the other."""
    shared = memoryview(mmap.mmap(-1, MEMORY_BYTES + 4 * VCPU_PAGE.size))
    pages = shared[MEMORY_BYTES:]
    machine = ItsMachine(memory=shared[:MEMORY_BYTES])
    for index in range(VPES):
        vcpu = machine.vcpus[index]
        vcpu.page = Pinned(pages[index * VCPU_PAGE.size :][: VCPU_PAGE.size])
        vcpu.words = SharedWords(vcpu.page)
        table = Pinned(machine.memory.view(vcpu.vpt + 1024, 128))
        vcpu.port = VpePort(vcpu.page, table)
    machine.enable()
    machine.mapd(DEVICE)
    for vpe in range(VPES):
        machine.configure(LPI + vpe, True)
        machine.vmapp(vpe)
    for event in range(EVENTS):
        machine.vmapti(DEVICE, event, event % VPES, VLPI + event, LPI + event % VPES)
    assert machine.errors() == {}
    return machine, SharedWords(Pinned(pages[2 * VCPU_PAGE.size :]))


def test_vmovp_and_vmovi_while_interrupts_fly() -> None:
    machine, stop = build()
    dice = random.Random(1)
    posted, taken, doorbells = [0] * EVENTS, [0] * EVENTS, 0

    def schedule() -> None:
        order = random.Random(2)
        while not stop.load32(0):
            port = machine.vcpus[order.randrange(VPES)].port
            port.leave()
            port.enter(order.randrange(2))

    def take() -> None:
        for vcpu in machine.vcpus[:VPES]:
            for intid in vcpu.take():
                taken[intid - VLPI] += 1

    with beside(schedule):
        for turn in range(SIGNALS):
            event = dice.randrange(EVENTS)
            if posted[event] == taken[event]:
                posted[event] += 1
                assert machine.its.signal(DEVICE, event)
            if turn % 16 == 0:
                take()
            if turn % 64 == 0:
                machine.vmovp(dice.randrange(VPES), dice.randrange(2))
            if turn % 64 == 32:
                machine.vmovi(DEVICE, dice.randrange(EVENTS), dice.randrange(VPES))
            doorbells += len(machine.raised(0)) + len(machine.raised(1))
        stop.store32(0, 1)
    for vcpu in machine.vcpus[:VPES]:
        vcpu.port.leave()
        vcpu.port.enter(0)
    take()

    assert machine.errors() == {}
    assert taken == posted
    assert sum(posted) > SIGNALS // 8
    executed = machine.its.commands.executed
    assert executed["VMOVP"] + executed["VMOVI"] == SIGNALS // 32
    assert doorbells > 0
    assert machine.read("CREADR") == machine.read("CWRITER")


def test_movi_while_a_processor_takes() -> None:
    machine, _ = build()
    dice = random.Random(3)
    machine.mapc(0, 0)
    machine.mapc(1, 1)
    for event in range(EVENTS):
        machine.configure(LPI + event, True)
        machine.mapti(DEVICE, event, LPI + event, 0)
    posted, taken = [0] * EVENTS, [0] * EVENTS
    for _ in range(20_000):
        event = dice.randrange(EVENTS)
        if posted[event] == taken[event]:
            posted[event] += 1
            machine.its.signal(DEVICE, event)
        machine.event(c.OP_MOVI, DEVICE, dice.randrange(EVENTS), (c.COMMAND_ICID, dice.randrange(2)))
        for intid in machine.raised(dice.randrange(2)):
            taken[intid - LPI] += 1
    for intid in machine.raised(0) + machine.raised(1):
        taken[intid - LPI] += 1

    assert taken == posted
