"""Writes the C view of the declarations: structs of every record and the constants that native code needs."""

from types import ModuleType

from testbed.spec import (
    bar_window,
    bpf,
    dma_area,
    dma_request,
    e1000,
    e1000_ring,
    flow,
    gic,
    igb,
    igb_ring,
    igb_statistics,
    lpi,
    nic_counters,
    page_table,
    pcapng,
    port_counters,
    trace,
    vcpu_page,
    vhost_user,
    virtio,
    virtio_net,
    wire,
)
from testbed.spec.layout import Bits, Record

_MODULES: tuple[ModuleType, ...] = (
    e1000,
    e1000_ring,
    virtio,
    virtio_net,
    vcpu_page,
    flow,
    gic,
    lpi,
    page_table,
    port_counters,
    trace,
    dma_request,
    dma_area,
    bpf,
    pcapng,
    bar_window,
    vhost_user,
    igb,
    igb_ring,
    igb_statistics,
    nic_counters,
    wire,
)
_WORD_BITS = 64


def _declarations(module: ModuleType) -> list[str]:
    """Return structs, constants and bit fields of one module, prefixed with the module's name."""
    prefix = module.__name__.rpartition(".")[2].upper()
    lines = []
    for name, value in vars(module).items():
        if isinstance(value, Record):
            lines.append(value.c_struct())
        elif name.isupper() and not name.startswith("_") and type(value) is int:
            suffix = "ull" if value > 0xFFFF_FFFF else "u"
            lines.append(f"#define {prefix}_{name} {value:#x}{suffix}\n")
        elif isinstance(value, trace.Event):
            lines.append(f"#define {prefix}_{name} {int(value)}u\n")
        elif isinstance(value, Bits) and value.lsb + value.width <= _WORD_BITS:
            lines.append(f"#define {prefix}_{name}_LSB {value.lsb}u\n")
            if f"{name}_MASK" not in vars(module):  # declared on its own
                lines.append(f"#define {prefix}_{name}_MASK {value.mask:#x}ull\n")
    return lines


def c_header() -> str:
    """Return the text of `layouts.h`."""
    head = "/* Written by setup.py from testbed/spec. */\n#pragma once\n"
    head += "#include <stddef.h>\n#include <stdint.h>\n\n"
    return head + "\n".join("".join(_declarations(module)) for module in _MODULES)
