"""Control messages: each is its own kind on the wire and comes back as it went."""

from typing import Final

import msgspec
import pytest

from testbed.messages.attack import AttackEntry
from testbed.messages.control import (
    Attacked,
    Attacking,
    BeginAttack,
    Cancel,
    CaptureStarted,
    CaptureStopped,
    Collect,
    EndAttack,
    EventRoute,
    Expect,
    Expecting,
    Failed,
    FromProcess,
    Guard,
    Guarding,
    GuestReport,
    Inspect,
    Inspected,
    InspectInterrupts,
    InterruptState,
    Message,
    NicState,
    PeerDied,
    Ready,
    Received,
    Sent,
    SetVf,
    ShowVfs,
    Start,
    StartCapture,
    Stop,
    StopCapture,
    ToProcess,
    Turn,
    Turned,
    VcpuInterrupts,
    VfChanges,
    VfSet,
    VfState,
    VfStates,
)
from tests.guest.rig_driver import flow

VF: Final = VfState(
    number=0, guest="a", mac="02:00:00:00:00:01", vlan=7, rate_bits_per_second=10**9, spoof_check=True,
    trust=False, drop=False, link=True, running=True, resets=1, messages=10, refused=0, throttled=0,
    spoof_events=0,
)  # fmt: skip
ATTACK: Final = AttackEntry(
    id=1, name="dma-vmm m", phase=2, attack="dma-vmm", source="m", source_nic=0, function="nic0.vf0",
    nic="nic0", pool=0, iommu="iommu-h0", vmm="vmm-h0", guard="vmm-h0", duration_ns=10**9,
)  # fmt: skip
TO_PROCESS: Final = [
    Expect(flow=flow()),
    Start(flow=flow(kind="rr", duration_ns=5)),
    Collect(flow_id=7, sent=1 << 60),
    Cancel(flow_id=7),
    StartCapture(capture_id=1, nic="a.nic0", file="a.pcapng", expression="udp", count=5),
    StopCapture(capture_id=1),
    ShowVfs(request_id=1),
    SetVf(request_id=1, nic="nic0", number=2, changes=VfChanges(vlan=0, link=False)),
    InspectInterrupts(inspection_id=3),
    PeerDied(name="nic0"),
    BeginAttack(attack=ATTACK),
    Turn(attack_id=1, behave="hostile", target=1 << 45),
    EndAttack(attack_id=1),
    Guard(attack=ATTACK, page_gpa=1 << 31),
    Inspect(attack_id=1),
    Stop(),
]
FROM_PROCESS: Final = [
    Attacking(attack_id=1, page_gpa=1 << 31),
    Turned(attack_id=1, attempts=1 << 40, through=1),
    Attacked(attack_id=1, attempts=5, through=0, recovered=False),
    Guarding(attack_id=1, address=1 << 45),
    Inspected(attack_id=1, changed_bytes=4096),
    Ready(at_ns=1 << 62),
    Failed(reason="no device"),
    GuestReport(guest="a", device="a.nic0", reason="loop", detail="a chain"),
    Expecting(flow_id=7),
    Sent(flow_id=7, sent=1, answered=1, seconds=0.5, latency_ns={"p50": 1}),
    Sent(flow_id=7, sent=1, seconds=0.5),
    Received(flow_id=7, received=1, reordered=0, corrupted=0, duplicated=0, bytes=60, seconds=0.0),
    CaptureStarted(capture_id=1, refused="no such NIC"),
    CaptureStopped(capture_id=1, frames=5, missed=0),
    VfStates(request_id=1, nics=(NicState(name="nic0", link_up=True, vfs=(VF,)),)),
    VfSet(request_id=1, refused="there is no VF 9"),
    InterruptState(
        inspection_id=3,
        vcpus=(VcpuInterrupts(guest="a", vcpu=0, way="direct", running=True, resident=0, pending=(8192,)),),
        routes=(EventRoute(device=0x180, event=1, virtual=True, intid=8192, target=0, doorbell=8200),),
    ),
]


@pytest.mark.parametrize("message", TO_PROCESS, ids=lambda message: type(message).__name__)
def test_control_message_to_a_process_comes_back_as_it_went(message: ToProcess) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=ToProcess) == message


@pytest.mark.parametrize("message", FROM_PROCESS, ids=lambda message: type(message).__name__)
def test_control_message_of_a_process_comes_back_as_it_went(message: FromProcess) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=FromProcess) == message


def test_control_message_says_its_kind() -> None:
    assert msgspec.json.encode(Stop()) == b'{"type":"Stop"}'


def test_control_every_kind_is_in_one_direction() -> None:
    kinds = {type(message) for message in (*TO_PROCESS, *FROM_PROCESS)}
    assert kinds == set(Message.__subclasses__())


@pytest.mark.parametrize("message", TO_PROCESS, ids=lambda message: type(message).__name__)
def test_control_message_to_a_process_is_none_of_a_process(message: ToProcess) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(message), type=FromProcess)
