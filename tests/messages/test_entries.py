"""The plan's records: plain data that survives its file, and refuses what it does not know."""

import msgspec
import pytest

from testbed.messages.entries import FlowEntry, GuestEntry, Plan, ProcessPlan
from tests.guest.rig_driver import flow
from tests.support.plans import plan


def test_entries_plan_comes_back_as_it_went() -> None:
    whole = plan(("a", "b"), [flow(), flow(id=8, kind="replay", capture="x.pcap")], [flow(id=9)])
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Plan) == whole


def test_entries_process_reads_its_own_entry() -> None:
    guest = plan().processes[1]
    read = msgspec.json.decode(msgspec.json.encode(guest), type=ProcessPlan)
    assert isinstance(read.entry, GuestEntry)
    assert read.entry.name == "a"


def test_entries_unknown_member_is_refused() -> None:
    data = msgspec.to_builtins(flow())
    data["speed"] = 1
    with pytest.raises(msgspec.ValidationError, match="unknown field `speed`"):
        msgspec.convert(data, FlowEntry)


def test_entries_missing_member_is_refused() -> None:
    data = msgspec.to_builtins(flow())
    del data["source"]
    with pytest.raises(msgspec.ValidationError, match="missing required field `source`"):
        msgspec.convert(data, FlowEntry)


@pytest.mark.parametrize(
    ("destination", "nic", "comes_back"), [("a", 0, True), ("a", 1, False), ("b", 0, False)]
)
def test_entries_flow_that_comes_back_has_one_nic(destination: str, nic: int, comes_back: bool) -> None:
    entry = flow(source="a", destination=destination, destination_nic=nic)
    assert entry.comes_back is comes_back
