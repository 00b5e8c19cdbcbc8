"""What a small Linux guest boots from: Debian's kernel, and an initial file system made on the spot.

The file system is busybox, the modules that virtio-net needs, and a script that is the first process. It is
made anew for every guest (milliseconds), so nothing is kept anywhere. Reference: the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst (cpio "newc"), depmod(8) for modules.dep. Not
modelled: compressed modules, other distributions' paths.
"""

import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.errors import MachineError

BOOT: Final = Path("/boot")
MODULES: Final = Path("/lib/modules")
BUSYBOX: Final = Path("/bin/busybox")
WANTED: Final = ("virtio_pci", "virtio_net")
"""Modules that the guest loads, with what they need."""
PACKAGES: Final = "apt-get install qemu-system-x86 linux-image-cloud-amd64 busybox-static"
EXIT_CODE_DEVICE: Final = "/dev/ttyS1"
"""Where the guest writes its program's exit code."""
_CPIO_MAGIC: Final = b"070701"
_CPIO_ALIGN: Final = 4
_CPIO_END: Final = "TRAILER!!!"
_DIRECTORIES: Final = ("bin", "dev", "lib", "proc", "root", "sys", "tmp")


@dataclass(frozen=True)
class Kernel:
    """A kernel with its modules."""

    image: Path
    modules: Path


@dataclass(frozen=True)
class Setting:
    """What the guest finds when it is up."""

    hostname: str
    address: str
    """Of eth0, with prefix length; empty: none."""
    program: Sequence[str] = ()
    """What it runs and then ends; empty: a shell."""
    rows: int = 24
    columns: int = 80


def find_kernel() -> Kernel:
    """Return the newest kernel that can be read and has the modules. Raises MachineError."""
    images = [image for image in BOOT.glob("vmlinuz-*") if image.is_file()]
    for image in sorted(images, key=lambda path: path.stat().st_mtime, reverse=True):
        kernel = Kernel(image, MODULES / image.name.removeprefix("vmlinuz-"))
        if (kernel.modules / "modules.dep").is_file():
            return kernel
    raise MachineError(f"a Linux guest needs a kernel in {BOOT} with modules in {MODULES}: {PACKAGES}")


def initramfs(kernel: Kernel, setting: Setting) -> bytes:
    """Return the guest's initial file system. Raises MachineError where busybox or a module is missing."""
    modules = needed_modules((kernel.modules / "modules.dep").read_text(), WANTED)
    if not BUSYBOX.is_file():
        raise MachineError(f"a Linux guest needs {BUSYBOX}: {PACKAGES}")
    files = {"bin/busybox": BUSYBOX.read_bytes()}
    files |= {f"lib/{Path(name).name}": (kernel.modules / name).read_bytes() for name in modules}
    files["init"] = init_script(setting, [Path(name).name for name in modules]).encode()
    return archive(_DIRECTORIES, files)


def needed_modules(dependencies: str, wanted: Iterable[str]) -> list[str]:
    """Return paths of modules in the order in which they can be loaded, from the text of modules.dep.

    Raises MachineError where one is not there.
    """
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, others = line.partition(":")
        # modules.dep names the deepest last
        needs[Path(path).name.partition(".")[0]] = [*reversed(others.split()), path]
    order: dict[str, None] = {}
    for name in wanted:
        if name not in needs:
            raise MachineError(f"a Linux guest needs the module {name}, which its kernel has not: {PACKAGES}")
        order |= dict.fromkeys(needs[name])
    return list(order)


def init_script(setting: Setting, modules: Iterable[str]) -> str:
    """Return the text of the first process."""
    lines = [
        "#!/bin/busybox sh",
        *(f"/bin/busybox mount -t {kind} {kind} /{at}" for kind, at in _MOUNTS.items()),
        "/bin/busybox --install -s /bin",
        *(f"insmod /lib/{module}" for module in modules),
        f"hostname {shlex.quote(setting.hostname)}",
        "ip link set lo up",
        *([f"ip addr add {setting.address} dev eth0"] if setting.address else []),
        "ip link set eth0 up",
        "export PATH=/bin HOME=/root TERM=linux PS1='\\h:\\w# '",
        "cd /root",
        f"stty rows {setting.rows} cols {setting.columns}",
        shlex.join(setting.program) if setting.program else "setsid -c sh",
        f"echo $? > {EXIT_CODE_DEVICE}",
        "poweroff -f",
    ]
    return "\n".join(lines) + "\n"


_MOUNTS: Final[Mapping[str, str]] = {"proc": "proc", "sysfs": "sys", "devtmpfs": "dev"}


def archive(directories: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive ("newc"); every file can be executed."""
    members = [_member(number, name, stat.S_IFDIR | 0o755, b"") for number, name in enumerate(directories, 1)]
    first = len(members) + 1
    members += [
        _member(number, name, stat.S_IFREG | 0o755, data)
        for number, (name, data) in enumerate(files.items(), first)
    ]
    return b"".join([*members, _member(0, _CPIO_END, 0, b"")])


def _member(inode: int, name: str, mode: int, data: bytes) -> bytes:
    path = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = _CPIO_MAGIC + b"".join(b"%08x" % number for number in numbers) + path
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _CPIO_ALIGN)
