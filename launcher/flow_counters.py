"""Where in the counters the frames of a flow are seen to arrive."""

from collections.abc import Mapping

from testbed.messages.entries import FlowEntry


def received_frames(flow: FlowEntry, counters: Mapping[str, int]) -> int:
    """Return what the NIC has received at which a flow ends, or the sink; counters: of its destination."""
    if flow.ends_on_wire:
        return counters.get("wire.unclaimed", 0)
    if flow.is_interrupts:
        vcpu = f"vcpu{flow.destination_vcpu}." if flow.destination_vcpu else ""
        return counters.get(f"{vcpu}interrupts.{flow.kind}", 0)
    counted = f"{flow.source}.nic{flow.source_nic}.frames_in"
    name = counted if flow.is_sunk else f"nic{flow.destination_nic}.rx_frames"
    return sum(value for key, value in counters.items() if key == name or key.endswith(f".{name}"))
