"""The `virtbed` command: what a person types, and the exit code they get.

Commands import what they need when they run, so that `virtbed --help` and completion stay quick. A person's
mistake is told in lines, never as a traceback. Exit codes: 0 good, 1 an expectation failed, 2 bad input, 3 a
process died or the machine lacks something, 130 Ctrl-C.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from launcher import cli_bench, cli_compare, cli_explain, cli_running, cli_vf, cli_why, linux_guest_cli
from launcher.options import Json
from launcher.output import STDOUT, check_writable, complain, write_json
from testbed.errors import ConfigError, MachineError

BAD_INPUT: Final = 2
MACHINE: Final = 3
_SIGNAL_BASE: Final = 128

app = typer.Typer(
    name="virtbed",
    help="A laboratory for I/O virtualization: every VM, VMM, NIC and IOMMU is a process.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(help="Measure the testbed itself.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A topology file (YAML).", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what goes wrong.")]


@app.command()
def run(
    file: File,
    json: Json = "",
    quiet: Quiet = False,
    trace: Annotated[
        str, typer.Option(metavar="FILE", help="Write the last events of every process there (Perfetto).")
    ] = "",
) -> None:
    """Bring a topology up, run its workloads, print the result, take everything down."""
    check_writable(json)
    check_writable(trace, "--trace")
    from launcher import forkclient
    from launcher.live import choose_view
    from launcher.netns import check_possible
    from launcher.prepare import prepare
    from launcher.run import run_plan
    from launcher.rundir import Holder
    from launcher.table import console, show_result

    plan = prepare(file)
    check_possible(plan)
    to_stderr = json == STDOUT
    view = choose_view(console(stderr=to_stderr), quiet=quiet)
    holder = Holder(plan.topology, os.getpid(), "run", time.time(), str(file))
    result = run_plan(plan, holder, view, forkclient.ROLES, trace)
    show_result(result, quiet=quiet or to_stderr)
    write_json(result, json)
    raise typer.Exit(result.exit_code)


@app.command()
def check(file: File) -> None:
    """Tell every mistake in a topology file, with its line and the rule; start nothing."""
    from launcher.figures import plural
    from launcher.prepare import prepare

    plan = prepare(file)
    roles = [process.role for process in plan.processes]
    parts = (plural(roles.count("vmm"), "host"), plural(roles.count("guest"), "guest"))
    attacks = f" and {plural(len(plan.attacks), 'attack')}" if plan.attacks else ""
    flows = f"{plural(sum(map(len, plan.phases)), 'flow')}{attacks}"
    typer.echo(f"{file}: good: {', '.join(parts)}, {flows} in {plural(len(plan.phases), 'phase')}")


@app.command()
def plan(file: File, json: Json = "") -> None:
    """Show what would be started: processes, what each may map, addresses, flows."""
    check_writable(json)
    from launcher.prepare import prepare

    prepared = prepare(file)
    write_json(prepared, json)
    if json != STDOUT:
        from launcher.plan_table import plan_view
        from launcher.table import console

        console().print(plan_view(prepared))


@app.command()
def schema() -> None:
    """Print the JSON schema of topology files, for editors."""
    from launcher.schema import json_schema

    write_json(json_schema(), STDOUT)


@app.command()
def clean() -> None:
    """Remove what dead runs left behind; what runs is not touched."""
    from launcher import rundir, segments

    removed = [*rundir.clean(), *segments.clean()]
    for path in removed:
        typer.echo(f"removed {path}")
    if not removed:
        typer.echo("nothing to remove")


@bench.command()
def launch(
    guests: Annotated[int, typer.Option("--guests", "-n", min=2, max=1024, help="How many guests.")] = 200,
    memory: Annotated[str, typer.Option("--memory", help="RAM of each.")] = "16MiB",
    json: Json = "",
) -> None:
    """Bring many guests up on one host; each passes a verified frame to its neighbour."""
    check_writable(json)
    from launcher import forkclient
    from launcher.bench_launch import launch_table, measure_launch
    from launcher.table import console, show_result

    measured = measure_launch(guests, memory, forkclient.ROLES)
    write_json(measured, json)
    show_result(measured.result, quiet=True)
    if json != STDOUT:
        console().print(launch_table(measured))
    raise typer.Exit(measured.result.exit_code)


cli_running.add_commands(app)
cli_compare.add_commands(app)
cli_why.add_commands(app)
cli_bench.add_commands(bench)
cli_explain.add_commands(app)
app.add_typer(bench, name="bench")
app.add_typer(cli_vf.vf, name="vf")
app.add_typer(linux_guest_cli.app, name="guest")


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except ConfigError as error:
        complain(error.problems)
        sys.exit(BAD_INPUT)
    except MachineError as error:
        complain(str(error).splitlines())
        sys.exit(MACHINE)
    except KeyboardInterrupt:
        sys.exit(_SIGNAL_BASE + signal.SIGINT)
