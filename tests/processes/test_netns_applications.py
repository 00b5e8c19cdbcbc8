"""Real applications between guests' namespaces, over every pair of kinds of NIC: ping, TCP by iperf3, HTTP.

Throughput is printed, not judged: pytest -s shows it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final

import pytest

from tests.support.launched import ROOT, Launched
from tests.support.peers import needs, needs_namespaces

pytestmark = [
    pytest.mark.usefixtures("run_parent"),
    pytest.mark.timeout(240),
    needs_namespaces,
    needs("ping", "iperf3", "curl"),
]

NICS: Final = {
    "split": "{kind: virtio-net}",
    "packed": "{kind: virtio-net, ring: packed, queue_pairs: 2}",
    "e1000": "{kind: e1000}",
    "vf": "{kind: vf, nic: nic0}",
}
"""By the name of a kind: what a guest has."""
PAIRS: Final = [pair for pair in combinations_with_replacement(NICS, 2) if pair not in {("packed", "packed")}]
PINGS: Final = 50
CONTENT: Final = bytes(range(256)) * 4096
"""1 MiB."""
PATIENCE_SECONDS: Final = 60.0
"""A safety net only."""


def addresses() -> dict[str, str]:
    """Return an address for each guest: two of each kind of NIC."""
    guests = [f"{kind}{i}" for kind in NICS for i in (0, 1)]
    return {guest: f"10.0.0.{number}" for number, guest in enumerate(guests, 1)}


def topology() -> str:
    """Return a topology with a namespace for every guest."""
    lines = [
        "name: applications",
        "hosts:",
        "  h0: {nics: {nic0: {vfs: 2}}, bridge: {uplink: nic0}}",
        "guests:",
    ]
    lines += [f"  {guest}: {{memory: 32MiB, nics: [{NICS[guest[:-1]]}]}}" for guest in addresses()]
    lines += ["workloads:"]
    lines += [f"  - {{kind: netns, guest: {g}, address: {a}/24}}" for g, a in addresses().items()]
    return "\n".join(lines)


def inside(guest: str, *program: str) -> list[str]:
    return [sys.executable, "-m", "launcher", "exec", "applications", guest, "--", *program]


def output(guest: str, *program: str) -> bytes:
    ended = subprocess.run(
        inside(guest, *program), cwd=ROOT, capture_output=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 0, (guest, program, ended.stdout, ended.stderr)
    return ended.stdout


@contextmanager
def serving(guest: str, said: str, *program: str) -> Iterator[None]:
    """Run a server until the end of the block; begin once it has said that it is there."""
    with subprocess.Popen(
        inside(guest, *program), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            assert any(said in line for line in server.stdout)
            yield
        finally:
            server.kill()


def ends(pair: tuple[str, str]) -> tuple[str, str]:
    """Return the client's and the server's guest."""
    return f"{pair[0]}0", f"{pair[1]}1"


def pinged(pair: tuple[str, str]) -> None:
    client, server = ends(pair)
    said = output(client, "ping", "-q", "-c", str(PINGS), "-i", "0.002", addresses()[server])
    assert f"{PINGS} packets transmitted, {PINGS} received, 0% packet loss" in said.decode()


def measured(pair: tuple[str, str], *way: str) -> float:
    """Return TCP throughput from client to server in Gbit/s, or back with -R."""
    client, server = ends(pair)
    with serving(server, "listening", "iperf3", "-s", "--forceflush"):
        said = output(client, "iperf3", "-J", "-n", "8M", "-c", addresses()[server], *way)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


def fetched(pair: tuple[str, str], directory: Path) -> None:
    client, server = ends(pair)
    with serving(server, "Serving", sys.executable, "-u", "-m", "http.server", "-d", str(directory)):
        content = output(client, "curl", "-s", f"http://{addresses()[server]}:8000/content")
    assert hashlib.sha256(content).digest() == hashlib.sha256(CONTENT).digest()


def test_applications_over_every_pair_of_nics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/content").write_bytes(CONTENT)
    launched = Launched(topology(), tmp_path)
    launched.until("ready in")
    for pair in PAIRS:
        pinged(pair)
        fetched(pair, tmp_path / "www")
        there, back = measured(pair), measured(pair, "-R")
        with capfd.disabled():
            print(f"\n{pair[0]:>7} and {pair[1]:<7} TCP {there:6.2f} Gbit/s, back {back:6.2f}", end="")
        assert there > 0
        assert back > 0
    os.kill(launched.pid, signal.SIGINT)
    assert launched.end() == 130
    assert launched.result().died == ()
