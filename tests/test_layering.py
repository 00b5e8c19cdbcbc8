"""Design, "Layers and layout": an import goes only downwards, and a file stays small enough to be read.

Every import counts, wherever it stands (in a function, under TYPE_CHECKING): read from the syntax tree.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FILES: Final = sorted(path for top in ("testbed", "launcher") for path in (ROOT / top).rglob("*.py"))

L0: Final = frozenset({"address", "budget", "deadline", "errors", "spec", "native"})
L1: Final = frozenset({"memory", "observe"})
L2: Final = frozenset({"messages", "interrupts", "pci", "net"})
DEVICE_SIDES: Final = frozenset(
    {"virtio", "e1000", "nic", "iommu.client", "iommu.virtual", "iommu.virtual_its"}
)
"""What a vmm may build its virtual machines from."""

ALLOWED: Final[dict[str, frozenset[str]]] = {
    "address": frozenset(),
    "budget": frozenset(),
    "deadline": frozenset(),
    "errors": frozenset(),
    "spec": frozenset({"address"}),
    "native": frozenset(),
    "memory": L0,
    "observe": L0,
    "messages": L0 | L1,
    "interrupts": L0 | L1,
    "pci": L0 | L1,
    "net": L0 | L1,
    "virtio": L0 | L1 | L2 | {"iommu.client"},
    "e1000": L0 | L1 | L2 | {"iommu.client"},
    "nic": L0 | L1 | L2 | {"iommu.client"},
    "iommu": L0 | L1 | L2,
    "vmm": L0 | L1 | L2 | DEVICE_SIDES,
    "guest": L0 | L1 | L2,
    # a hypervisor, a vCPU and a device between which interrupts are measured
    "irqbench": L0 | L1 | L2 | {"vmm", "guest", "iommu.client"},
    # filter expressions are checked before anything is started
    "launcher": L0 | L1 | {"messages", "net.interpose"},
}
"""Whom each part may import besides itself; a composition root (`process.py`) may import all of testbed."""

OUTSIDE: Final = ("zmq", "mmap", "socket")
"""What reaches out of the process: only composition roots, `messages`, `memory` and the launcher use it."""
REACHING_OUT: Final = frozenset({"messages", "memory", "launcher"})
SAYING_NOTHING: Final = frozenset({"util", "utils", "common", "base", "helpers", "helper", "misc"})
FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 60


def name_of(path: Path) -> str:
    """Return the dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Return the part of the project that a module belongs to: `launcher`, or the second word of its name."""
    words = module.split(".")
    return words[0] if words[0] == "launcher" or len(words) == 1 else words[1]


def is_root(path: Path) -> bool:
    """Say whether a file is a composition root."""
    return (
        path.name == "process.py" and path.parent.parent.name == "testbed" and path.parent.name != "messages"
    )


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of every module that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: name the module in full"
            assert node.module is not None
            packages = {"testbed", "launcher"}
            for alias in node.names if node.module in packages else ():
                yield node.lineno, f"{node.module}.{alias.name}"
            if node.module not in packages:
                yield node.lineno, node.module


def is_allowed(part: str, module: str) -> bool:
    """Say whether one part may import a module of ours."""
    target = part_of(module)
    words = ".".join(module.split(".")[1:3])
    return target == part or target in ALLOWED[part] or words in ALLOWED[part]


def edges() -> Iterator[tuple[Path, int, str]]:
    """Yield every import of a module of ours."""
    for path in FILES:
        for line, module in imports(path):
            if module.split(".")[0] in ("testbed", "launcher"):
                yield path, line, module


def test_layering_every_part_is_in_the_table() -> None:
    parts = {part_of(name_of(path)) for path in FILES} - {"testbed"}
    assert parts <= set(ALLOWED)


def test_layering_imports_go_downwards() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path, line, module in edges()
        if not is_root(path) and not is_allowed(part_of(name_of(path)), module)
    ]
    assert wrong == []


def test_layering_nothing_of_testbed_imports_the_launcher() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, line, module in edges()
        if module.startswith("launcher") and name_of(path).startswith("testbed")
    ]
    assert wrong == []


def test_layering_composition_roots_are_imported_by_nobody() -> None:
    roots = {name_of(path) for path in FILES if is_root(path)}
    assert roots >= {"testbed.vmm.process", "testbed.guest.process"}
    assert [f"{path}:{line}" for path, line, module in edges() if module in roots] == []


def test_layering_only_a_few_reach_out_of_the_process() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        for line, module in imports(path)
        if module.split(".")[0] in OUTSIDE
        and not is_root(path)
        and part_of(name_of(path)) not in REACHING_OUT
    ]
    assert wrong == []


def test_layering_names_say_something() -> None:
    words = {word for path in FILES for word in name_of(path).split(".")}
    assert words & SAYING_NOTHING == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_layering_file_can_be_read(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{node.name} has {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []
    assert not text or ast.get_docstring(ast.parse(text)), "a module says what it is for"


@pytest.mark.parametrize(
    ("part", "module", "allowed"),
    [
        ("net", "testbed.native", True),
        ("net", "testbed.virtio.net", False),
        ("virtio", "testbed.e1000.device", False),
        ("virtio", "testbed.iommu.client", True),
        ("virtio", "testbed.iommu.smmu", False),
        ("guest", "testbed.virtio.net", False),
        ("vmm", "testbed.virtio.net", True),
        ("vmm", "testbed.guest.flows", False),
        ("memory", "testbed.observe.counters", False),
        ("launcher", "testbed.vmm.process", False),
        ("spec", "testbed.errors", False),
    ],
)
def test_layering_table_says(part: str, module: str, allowed: bool) -> None:
    assert is_allowed(part, module) is allowed
