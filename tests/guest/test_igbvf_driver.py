"""The guest's igbvf against the 82576's control side and the PF's driver: handshake, settings, link, resets.

The rings are written by hand here; with a data side they are in tests/nic.
"""

from array import array
from itertools import accumulate

import pytest

from testbed.errors import DeviceError
from testbed.guest.drivers.igbvf import IgbVfConfig, IgbVfDriver
from testbed.native import Burst, ReplaySource
from testbed.pci.access import MsiMessage
from testbed.spec import igb_mailbox as mbx
from testbed.spec import igb_ring as ring
from testbed.spec import igb_vf
from testbed.spec.igb import mask
from testbed.vmm.pf_functions import VfSettings
from tests.support.pf_machine import VF_MACS
from tests.support.vf_machine import VfMachine

ENABLE = mask("RXDCTL", "ENABLE")


def send(driver: IgbVfDriver, *lengths: int) -> Burst:
    """Send frames of zeros with these lengths; return the burst."""
    burst = Burst()
    assert driver.tx_reserve(burst, len(lengths)) == len(lengths)
    offsets = array("I", [0, *accumulate(lengths)])
    ReplaySource(bytes(sum(lengths)), offsets).fill(burst)
    driver.tx_send(burst)
    return burst


def machine(**changes: object) -> VfMachine:
    """One virtual function with an address; `changes` are of its settings."""
    return VfMachine(VfSettings(mac=VF_MACS[0], **changes), VfSettings(mac=VF_MACS[1]))  # type: ignore[arg-type]


# bring-up


def test_the_driver_comes_up_with_the_operators_address_and_a_link() -> None:
    vm = machine()
    driver = vm.load()
    assert (driver.mac, driver.link_up, driver.failure) == (VF_MACS[0], True, "")
    assert [vm.vrd(0, name) & ENABLE for name in ("RXDCTL", "TXDCTL")] == [ENABLE, ENABLE]
    assert (vm.nic.state.pools[0].receive, vm.vrd(0, "RDT")) == (True, 63)


def test_its_accesses_are_those_of_a_correct_driver() -> None:
    vm = machine()
    vm.load()
    counts = vm.nic.windows[0].registers.counts
    assert (counts.unknown, counts.read_only, counts.partial, vm.reports) == (0, 0, 0, [])


def test_vectors_are_routed_as_igbvf_has_them() -> None:
    vm = machine()
    vm.load()
    assert (vm.vrd(0, "VTIVAR"), vm.vrd(0, "VTIVAR_MISC")) == (0x8081, 0x82)
    vm.taken()
    vm.nic.transmitted(1)
    vm.nic.received(1)
    assert vm.taken() == [(1, 0), (1, 1)]


def test_a_function_without_an_address_chooses_one_after_retries() -> None:
    vm = VfMachine(VfSettings())
    driver = vm.load()
    assert driver.mac[0] & 3 == 2
    assert driver.link_up
    assert vm.driver.vfs[0].counts.refused == 3
    assert driver.mac in [u.mac for u in vm.nic.state.unicast if u.pools == 1]


def test_a_function_without_a_hypervisors_answer_is_an_error() -> None:
    vm = machine()
    vm.driver.stop()
    vm.enable_vfs(1)
    vm.wr("CTRL_EXT", mask("CTRL_EXT", "PFRSTD"))
    with pytest.raises(DeviceError, match="does not answer mailbox message 0x1"):
        vm.load()


def test_a_function_that_is_gone_is_an_error() -> None:
    vm = machine()
    vm.enable_vfs(0)
    with pytest.raises(DeviceError, match="does not answer"):
        vm.load()


def test_a_pf_that_is_being_reset_is_waited_for() -> None:
    vm = VfMachine(VfSettings(mac=VF_MACS[0]), start=False)
    vm.enable_vfs(1)
    started: list[int] = []

    def start_later(ns: int) -> None:
        if not started:
            started.append(ns)
            vm.driver.start()
        VfMachine.pause(vm, ns)

    vm.pause = start_later  # type: ignore[method-assign]
    assert vm.load().link_up
    assert started


def test_who_was_stopped_himself_for_long_waits_on() -> None:
    vm = VfMachine(VfSettings(mac=VF_MACS[0]), start=False)
    vm.enable_vfs(1)
    pauses: list[int] = []

    def stopped_first(ns: int) -> None:
        pauses.append(ns)
        if len(pauses) == 1:
            vm.clock.advance(10_000_000_000)
        elif len(pauses) == 3:
            vm.driver.start()
        VfMachine.pause(vm, ns)

    vm.pause = stopped_first  # type: ignore[method-assign]
    assert vm.load().link_up


@pytest.mark.parametrize(("mtu", "longest"), [(1500, 1522), (2000, 2022), (9000, 9022)])
def test_long_frames_are_asked_for(mtu: int, longest: int) -> None:
    vm = machine()
    driver = vm.load(config=IgbVfConfig(ring_size=16, mtu=mtu))
    assert vm.nic.state.pools[0].frame_max_bytes == longest
    assert 1024 * (vm.vrd(0, "SRRCTL") & 0x7F) >= mtu + 18
    assert driver.mtu == mtu


def test_an_mtu_beyond_the_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="at most 9706 bytes, not 9707"):
        machine().load(config=IgbVfConfig(mtu=9707))


@pytest.mark.parametrize("size", [0, 4, 12, 32776])
def test_a_ring_that_the_device_cannot_have_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8 descriptors"):
        IgbVfConfig(ring_size=size)


def test_vlans_of_the_configuration_are_joined() -> None:
    vm = machine()
    vm.load(config=IgbVfConfig(ring_size=16, vlans=(5, 6)))
    assert [(v.vlan, v.pools) for v in vm.nic.state.vlans] == [(5, 1), (6, 1)]


def test_a_vlan_that_the_operator_does_not_permit_is_an_error() -> None:
    with pytest.raises(DeviceError, match="VLAN 5 was refused"):
        machine(vlan=9).load(config=IgbVfConfig(ring_size=16, vlans=(5,)))


def test_without_a_configuration_space_the_hypervisor_has_enabled_messages() -> None:
    vm = machine()
    vm.nic.write(1, 16, 0x04, 2, 0x4)
    vm.nic.write(1, 16, 0x72, 2, 0x8000)
    driver = vm.load(config=IgbVfConfig([MsiMessage(0x1000, n) for n in range(3)], ring_size=16))
    vm.taken()
    vm.nic.received(1)
    assert (vm.taken(), driver.link_up) == ([(1, 1)], True)


# the mailbox in use


def test_addresses_of_its_own_are_for_the_trusted() -> None:
    vm, trusted = machine(), machine(trust=True)
    assert (vm.load().set_mac(VF_MACS[5]), trusted.load().set_mac(VF_MACS[5])) == (False, True)


def test_multicast_is_asked_for_by_hash() -> None:
    vm = machine()
    driver = vm.load()
    # the recorded hashes of 33:33:00:00:00:01 and of 33:33:ff:00:e3:d0
    assert driver.set_multicast([bytes.fromhex("333300000001"), bytes.fromhex("3333ff00e3d0")])
    assert vm.driver.vfs[0].driver.hashes == (0x010, 0xD0E)


def test_more_addresses_than_a_message_holds_are_everything() -> None:
    vm = machine()
    assert vm.load().set_multicast([bytes([1, 0, 0x5E, 0, 0, n]) for n in range(40)])
    assert vm.nic.state.pools[0].accept_multicast


def test_every_multicast_frame_can_be_asked_for() -> None:
    vm = machine()
    vm.load(config=IgbVfConfig(ring_size=16, all_multicast=True))
    assert vm.nic.state.pools[0].accept_multicast


def test_a_message_of_the_pf_is_not_lost_by_a_request_at_the_same_time() -> None:
    vm = machine()
    driver = vm.load()
    vm.nic.set_wire(False)
    vm.run()
    assert driver.set_multicast([])
    vm.run()
    vm.deliver_interrupts(driver)
    assert not driver.link_up


# link and resets


def test_the_link_follows_the_wire() -> None:
    vm = machine()
    driver = vm.load()
    seen = []
    for plugged in (False, True):
        vm.nic.set_wire(plugged)
        vm.run()
        vm.deliver_interrupts(driver)
        seen.append(driver.link_up)
    assert seen == [False, True]


def test_the_operator_turns_the_link_off_and_on() -> None:
    vm = machine()
    driver = vm.load()
    vm.driver.configure(0, VfSettings(mac=VF_MACS[0], link=False))
    vm.deliver_interrupts(driver)
    assert (driver.link_up, vm.nic.state.pools[0].transmit) == (False, False)
    vm.run()
    vm.driver.configure(0, VfSettings(mac=VF_MACS[0]))
    vm.deliver_interrupts(driver)
    assert (driver.link_up, vm.nic.state.pools[0].transmit) == (True, True)


def test_a_link_that_is_off_from_the_beginning_comes_up_later() -> None:
    vm = machine(link=False)
    driver = vm.load()
    assert (driver.link_up, vm.vrd(0, "RXDCTL") & ENABLE) == (False, 0)
    vm.run()
    vm.driver.configure(0, VfSettings(mac=VF_MACS[0]))
    vm.deliver_interrupts(driver)
    assert (driver.link_up, vm.vrd(0, "RXDCTL") & ENABLE) == (True, ENABLE)


def test_another_address_of_the_operator_is_taken_over() -> None:
    vm = machine()
    driver = vm.load()
    vm.driver.configure(0, VfSettings(mac=VF_MACS[7]))
    vm.deliver_interrupts(driver)
    assert (driver.mac, driver.link_up) == (VF_MACS[7], True)


def test_a_reset_of_the_pf_is_survived() -> None:
    vm = machine()
    driver = vm.load()
    vm.driver.start()
    vm.run()
    assert vm.nic.state.pools[0].receive is False
    driver.handle_interrupt()
    assert (driver.link_up, driver.mac, vm.nic.state.pools[0].receive) == (True, VF_MACS[0], True)


def test_a_device_that_goes_away_has_no_link() -> None:
    vm = machine()
    driver = vm.load()
    vm.enable_vfs(0)
    assert driver.handle_interrupt()
    assert (driver.link_up, "does not answer" in driver.failure) == (False, True)


def test_a_stopped_driver_leaves_its_function_reset() -> None:
    vm = machine()
    driver = vm.load()
    driver.stop()
    vm.run()
    assert (vm.vrd(0, "RXDCTL") & ENABLE, vm.nic.state.pools[0].receive) == (0, False)


def test_two_drivers_do_not_know_of_each_other() -> None:
    vm = machine()
    first, second = vm.load(0), vm.load(1)
    first.stop()
    vm.run()
    assert (second.link_up, second.mac, vm.nic.state.pools[1].receive) == (True, VF_MACS[1], True)
    assert vm.vrd(1, "VTEIMS") & 0b11 == 0b11


# rings by hand


def test_sent_frames_are_advanced_descriptors_and_the_last_is_reported() -> None:
    vm = machine()
    driver = vm.load()
    send(driver, *range(60, 100))
    descriptors = driver._tx_ring.pinned.words(0, 64 * 16)
    words = [(descriptors[2 * n + 1] & 0xFFFF_FFFF, descriptors[2 * n + 1] >> 32) for n in range(40)]
    expected = ring.TX_EOP | ring.TX_IFCS | ring.TX_DEXT | ring.DTYP_DATA << ring.DTYP_SHIFT
    reports = [n for n, (command, _) in enumerate(words) if command & ring.TX_RS]
    assert [command & ~ring.TX_RS for command, _ in words] == [expected | 60 + n for n in range(40)]
    assert [olinfo >> ring.PAYLEN_SHIFT for _, olinfo in words] == [60 + n for n in range(40)]
    assert (reports, vm.vrd(0, "TDT"), driver.tx_watch.ready) == ([31, 39], 40, False)


def test_a_reported_descriptor_gives_back_those_before_it() -> None:
    vm = machine()
    driver = vm.load()
    burst = send(driver, *[60] * 40)
    descriptors = driver._tx_ring.pinned.words(0, 64 * 16)
    descriptors[2 * 31 + 1] = ring.TX_DD << 32
    assert driver.tx_watch.ready
    assert driver.tx_reserve(burst, 64) == 63 - 8
    assert not driver.tx_watch.ready


def test_received_frames_are_what_the_device_wrote_back() -> None:
    vm = machine()
    driver = vm.load()
    descriptors = driver._rx_ring.pinned.words(0, 64 * 16)
    for n, length in enumerate((60, 100)):
        status = ring.RX_STATUS_DD | ring.RX_STATUS_EOP | ring.RX_STATUS_L4CS
        descriptors[2 * n + 1] = length << 32 | status
    burst = Burst()
    assert (driver.rx_collect(burst), [burst.frame_length(n) for n in range(2)]) == (2, [60, 100])
    driver.rx_refill(burst)
    assert (driver.rx_collect(burst), descriptors[1], descriptors[3]) == (0, 0, 0)


def test_a_length_that_no_buffer_has_is_an_error_and_no_frame() -> None:
    vm = machine()
    driver = vm.load()
    descriptors = driver._rx_ring.pinned.words(0, 64 * 16)
    descriptors[1] = 0xFFFF << 32 | ring.RX_STATUS_DD | ring.RX_STATUS_EOP
    burst = Burst()
    assert driver.rx_collect(burst) == 0
    assert driver._rx.errors == 1


def test_before_it_sleeps_it_unmasks_what_was_sent_and_looks_once_more() -> None:
    vm = machine()
    driver = vm.load()
    vm.taken()
    vm.nic.received(1)
    assert vm.taken() == [(1, 1)]
    driver.handle_vector(1)
    assert vm.vrd(0, "VTEIMS") & 0b11 == 0b01
    assert not driver.before_sleep()
    assert vm.vrd(0, "VTEIMS") & 0b11 == 0b11
    driver._rx_ring.pinned.words(0, 64 * 16)[1] = ring.RX_STATUS_DD | ring.RX_STATUS_EOP | 60 << 32
    assert driver.before_sleep()


def test_a_sleeper_waits_for_sent_frames_only_where_somebody_wants_buffers() -> None:
    vm = machine()
    driver = vm.load()
    send(driver, 60)
    driver._tx_ring.pinned.words(0, 64 * 16)[1] = ring.TX_DD << 32
    seen = []
    for active in (True, False):
        driver.tx_watch.active = active
        seen.append(driver.before_sleep())
    assert seen == [True, False]


def test_tail_registers_are_doorbells_only() -> None:
    vm = machine()
    driver = vm.load()
    before = vm.vrd(0, "RDT")
    assert (before, driver.rx_watch.ready) == (63, False)
    assert igb_vf.REGISTERS["VMBMEM"].count == mbx.WORDS
