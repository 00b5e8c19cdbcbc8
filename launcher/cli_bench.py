"""Commands that measure the data plane: bench virtio, vhost-user, e1000, rr, dma, irq, wire, trace.

Not modelled: comparison of two files of figures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

import typer

from launcher.options import Json
from launcher.output import STDOUT, check_writable, complain, write_json
from launcher.result import ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.spread import Spread


AtLeast = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Exit with 1 where the median of a figure is below."),
]
AtMost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Exit with 1 where the median of a figure is above."),
]
Pairs = Annotated[int, typer.Option(min=1, help="How often to measure each side, in turn.")]
Seconds = Annotated[float, typer.Option(min=0.05, max=3600, help="Length of each measurement.")]
Frame = Annotated[int, typer.Option(help="Frame size in bytes without FCS.")]


def add_commands(bench: typer.Typer) -> None:
    """Add the commands of this module to `virtbed bench`."""
    for command in (virtio, e1000, rr, dma, irq, wire, trace):
        bench.command()(command)
    bench.command("vhost-user")(vhost_user)


def virtio(
    path: Annotated[
        Literal["sink", "echo", "forward"],
        typer.Option(help="Where frames go: into the back end, back to the guest, to another guest."),
    ],
    ring: Annotated[Literal["split", "packed"], typer.Option(help="Format of the virtqueues.")] = "split",
    frame: Frame = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    queues: Annotated[int, typer.Option(min=1, help="Queue pairs of each NIC.")] = 1,
    queue_size: Annotated[int, typer.Option(help="Descriptors in each virtqueue, on every side.")] = 1024,
    in_order: Annotated[bool, typer.Option(help="Use IN_ORDER, on every side.")] = False,
    peer: Annotated[
        Literal["dpdk"] | None, typer.Option(help="Run the same shape with it, in turn with ours.")
    ] = None,
    limit: Annotated[bool, typer.Option("--limit", help="Run a bare ring, in turn with ours.")] = False,
    in_flight: Annotated[int, typer.Option(help="1: one frame at a time (echo): latency.")] = 0,
    verify: Annotated[bool, typer.Option(help="Check every frame where it arrives.")] = True,
    pin: Annotated[bool, typer.Option(help="Give every process one processor, on every side.")] = True,
    poll: Annotated[
        str, typer.Option(help="How long to poll before sleeping: a duration, 0, forever.")
    ] = "200us",
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure frames through virtio-net, beside DPDK (--peer dpdk) and a bare ring (--limit)."""
    from launcher import bench_virtio

    settings = bench_virtio.Settings(
        path=path,
        ring=ring,
        frame_bytes=frame,
        seconds=seconds,
        pairs=pairs,
        queues=queues,
        queue_size=queue_size,
        in_order=in_order,
        in_flight=in_flight,
        verify=verify,
        pin=pin,
        poll=poll,
        peer=peer or "",
        limit=limit,
    )
    _measure(
        partial(bench_virtio.measure_virtio, settings),
        bench_virtio.virtio_table,
        bench_virtio.FIGURES,
        (at_least, at_most),
        json,
    )


def e1000(
    path: Annotated[
        Literal["sink", "echo", "forward"],
        typer.Option(help="Where frames go: into the vmm, back to the guest, to another e1000 guest."),
    ] = "sink",
    kick: Annotated[
        list[int] | None, typer.Option(min=1, help="Frames for each write of TDT; repeat. Default: 1 and 32.")
    ] = None,
    frame: Frame = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    ring_size: Annotated[int, typer.Option(help="Descriptors in each ring.")] = 256,
    verify: Annotated[bool, typer.Option(help="Check every frame where it arrives.")] = True,
    pin: Annotated[bool, typer.Option(help="One processor for the vmm, another for guests.")] = True,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure an emulated e1000: frames a second, and exits, copies and interrupts a frame."""
    from launcher import bench_e1000

    settings = bench_e1000.Settings(
        path=path,
        kicks=tuple(kick or bench_e1000.KICKS),
        frame_bytes=frame,
        seconds=seconds,
        pairs=pairs,
        ring_size=ring_size,
        verify=verify,
        pin=pin,
    )
    _measure(
        partial(bench_e1000.measure_e1000, settings),
        bench_e1000.e1000_table,
        settings.figures,
        (at_least, at_most),
        json,
    )


def vhost_user(
    ring: Annotated[Literal["split", "packed"], typer.Option(help="Format of the virtqueues.")] = "split",
    frame: Frame = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    queue_size: Annotated[int, typer.Option(help="Descriptors in each virtqueue, on both sides.")] = 1024,
    in_order: Annotated[bool, typer.Option(help="Use IN_ORDER, on both sides.")] = False,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure DPDK's virtio-user (txonly) into our vhost-user back end, beside DPDK's own (rxonly)."""
    from launcher import bench_vhost_user

    settings = bench_vhost_user.Settings(
        ring=ring, frame_bytes=frame, seconds=seconds, pairs=pairs, queue_size=queue_size, in_order=in_order
    )
    _measure(
        partial(bench_vhost_user.measure_vhost_user, settings),
        bench_vhost_user.vhost_user_table,
        bench_vhost_user.FIGURES,
        (at_least, at_most),
        json,
    )


def rr(
    frame: Frame = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure request and response between two guests that never poll, beside bare ZeroMQ wake-ups."""
    from launcher import bench_rr

    settings = bench_rr.Settings(frame_bytes=frame, seconds=seconds, pairs=pairs)
    _measure(
        partial(bench_rr.measure_rr, settings), bench_rr.rr_table, bench_rr.FIGURES, (at_least, at_most), json
    )


def dma(
    frame: Annotated[int, typer.Option(min=1, max=2048, help="Bytes of each request.")] = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure a device's requests in the IOMMU: cached translations, copies, and beside a bare ring."""
    from launcher import bench_dma

    settings = bench_dma.Settings(frame_bytes=frame, seconds=seconds, pairs=pairs)
    _measure(
        partial(bench_dma.measure_dma, settings),
        bench_dma.dma_table,
        bench_dma.FIGURES,
        (at_least, at_most),
        json,
    )


def irq(
    way: Annotated[
        Literal["list-registers", "direct"] | None,
        typer.Option(help="How the interrupt gets into the vCPU; both in turn where none is named."),
    ] = None,
    kind: Annotated[
        Literal["timer", "ipi", "virtio", "e1000", "vf"],
        typer.Option(
            help="Whose interrupt: a vCPU's timer, another vCPU (SGI), a device in the hypervisor, a device "
            "function (MSI). Only MSIs can be injected directly."
        ),
    ] = "vf",
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    poll: Annotated[
        str, typer.Option(help="How long IOMMU and hypervisor poll before sleeping: a duration, 0, forever.")
    ] = "0",
    gap: Annotated[str, typer.Option(help="From one handler to the next signal: a duration.")] = "0",
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure interrupts from their source's signal to their handler, by list registers and directly."""
    from launcher import bench_irq
    from launcher.units import parse_duration, parse_poll

    settings = bench_irq.IrqSettings(
        ways=bench_irq.WAYS if way is None else (way,),
        kind=kind,
        seconds=seconds,
        pairs=pairs,
        poll_ns=parse_poll(poll),
        gap_ns=parse_duration(gap),
    )
    _measure(
        partial(bench_irq.measure_irq, settings),
        bench_irq.irq_table,
        bench_irq.NAMES,
        (at_least, at_most),
        json,
    )


def wire(
    way: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WAY",
            help="e1000, e1000-batch, virtio, virtio-ats, vf, vf-ats; repeat. Default: all but the -batch "
            "and virtio-ats.",
        ),
    ] = None,
    far: Annotated[
        Literal["wire", "guest"],
        typer.Option(help="Where frames end: as the far NIC takes them off the wire, or in a guest there."),
    ] = "wire",
    frame: Frame = 60,
    seconds: Seconds = 1.0,
    pairs: Pairs = 3,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure frames from a guest to a wire: emulated, paravirtual, through a virtual function."""
    from launcher import bench_wire
    from launcher.wire_ways import WAYS_DEFAULT

    settings = bench_wire.WireSettings(
        ways=tuple(way or WAYS_DEFAULT), far=far, frame_bytes=frame, seconds=seconds, pairs=pairs
    )
    _measure(
        partial(bench_wire.measure_wire, settings),
        bench_wire.wire_table,
        bench_wire.FIGURES,
        (at_least, at_most),
        json,
    )


def trace(
    frame: Frame = 60,
    seconds: Annotated[float, typer.Option(min=0.01, max=60, help="Length of each turn.")] = 0.05,
    pairs: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 31,
    without: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A tree built with -DVIRTBED_NO_TRACE before."),
    ] = None,
    at_least: AtLeast = None,
    at_most: AtMost = None,
    json: Json = "",
) -> None:
    """Measure what tracepoints cost a forwarded frame while tracing is off, beside a build without them."""
    from launcher import bench_trace

    settings = bench_trace.TraceSettings(frame_bytes=frame, seconds=seconds, pairs=pairs)
    _measure(
        partial(bench_trace.measure_trace, settings, without=without),
        bench_trace.trace_table,
        bench_trace.FIGURES,
        (at_least, at_most),
        json,
    )


@contextmanager
def ending_as_the_run_did(json: str) -> "Iterator[None]":
    """Show the result of a run that did not end well, and exit with its code."""
    from launcher.result import BenchFailed
    from launcher.table import show_result

    try:
        yield
    except BenchFailed as failed:
        show_result(failed.result, quiet=json == STDOUT)
        raise typer.Exit(failed.result.exit_code) from None


class _Measured(Protocol):
    def figures(self) -> "Mapping[str, Spread]": ...


_MeasuredT = TypeVar("_MeasuredT", bound=_Measured)


def _measure(
    measure: Callable[[Callable[[str], None]], _MeasuredT],
    table: "Callable[[_MeasuredT], RenderableType]",
    known: Sequence[str],
    at_least_and_most: tuple[list[str] | None, list[str] | None],
    json: str,
) -> None:
    """Measure, write the figures, print them where standard output is free, and hold them to the bounds."""
    check_writable(json)
    from launcher.spread import broken, parse_bounds
    from launcher.table import console

    at_least, at_most = at_least_and_most
    bounds = parse_bounds(at_least or (), at_most or (), known)
    with ending_as_the_run_did(json):
        measured = measure(console(stderr=True).print)
    write_json(measured, json)
    if json != STDOUT:
        console().print(table(measured))
    problems = broken(bounds, measured.figures())
    complain(problems)
    if problems:
        raise typer.Exit(ExitCode.EXPECTATION_FAILED)
