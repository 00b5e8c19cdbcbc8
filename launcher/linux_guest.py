"""A small Linux in QEMU whose network device is the vhost-user socket of a topology's external guest.

Plain emulation: no KVM. Its RAM is a memory file that the back end maps; its console is the terminal; its
disk is an initial file system made on the spot (`linux_guest_image`). Reference: qemu(1); QEMU's "Vhost-user
Protocol", "QEMU machine"; the device has no MSI-X, because QEMU 7.2 under plain emulation fails with it
beside vhost-user. Not modelled: disks, other machines than x86.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from launcher.forkclient import environment
from launcher.linux_guest_image import PACKAGES, Kernel, Setting, find_kernel, initramfs
from launcher.peers.tied import tied
from launcher.units import MIB
from testbed.errors import MachineError

QEMU: Final = "qemu-system-x86_64"
MEMORY_BYTES: Final = 128 * MIB
MEMORY_BYTES_MIN: Final = 96 * MIB
MEMORY_BYTES_MAX: Final = 2048 * MIB
_CODE_BYTES_MAX: Final = 16
_COMMAND_LINE: Final = "console=ttyS0 quiet panic=-1 no_timer_check nokaslr mitigations=off"


@dataclass(frozen=True)
class Nic:
    """The guest's network device."""

    socket: Path
    """Of the vhost-user back end."""
    mac: str
    queue_pairs: int = 1
    packed: bool = False
    listens: bool = False
    """The guest listens at the socket and the back end connects; else the other way round."""


@dataclass(frozen=True)
class LinuxGuest:
    """What to boot."""

    setting: Setting
    nic: Nic
    memory_bytes: int = MEMORY_BYTES


def check_installed() -> Kernel:
    """Return the kernel to boot. Raises MachineError where it, QEMU or busybox is not there."""
    if shutil.which(QEMU) is None:
        raise MachineError(f"a Linux guest needs {QEMU}, which is not on this machine: {PACKAGES}")
    return find_kernel()


def run(guest: LinuxGuest) -> int:
    """Boot a guest with the terminal as its console; return its program's exit code when it has ended.

    Raises MachineError where something is missing, or where it ended before its program did.
    """
    kernel = check_installed()
    with _memory_file(initramfs(kernel, guest.setting)) as image, _memory_file() as code:
        command = qemu_command(guest, kernel, _path(image), _path(code))
        files = (image.fileno(), code.fileno())
        ended = subprocess.run(tied(command), pass_fds=files, env=environment(), check=False)
        told = os.pread(code.fileno(), _CODE_BYTES_MAX, 0).decode(errors="replace").strip()
    if not told.isdigit():
        raise MachineError(f"Linux guest {guest.setting.hostname} ended early ({QEMU}: {ended.returncode})")
    return int(told)


def qemu_command(guest: LinuxGuest, kernel: Kernel, image: str, code: str) -> list[str]:
    """Return the command that boots a guest from an image; its program's exit code is written to `code`."""
    nic, size = guest.nic, f"{guest.memory_bytes // MIB}M"
    device = f"virtio-net-pci,netdev=nic0,mac={nic.mac},romfile=,vectors=0"
    device += ",mq=on" if nic.queue_pairs > 1 else ""
    device += ",packed=on" if nic.packed else ""
    options = {
        "-machine": "pc,accel=tcg,memory-backend=ram",
        "-m": size,
        "-smp": str(nic.queue_pairs),
        "-object": f"memory-backend-memfd,id=ram,size={size},share=on",
        "-kernel": str(kernel.image),
        "-initrd": image,
        "-append": _COMMAND_LINE,
        "-netdev": f"vhost-user,id=nic0,chardev=nic0,queues={nic.queue_pairs}",
        "-device": device,
    }
    role = ",server=on" if nic.listens else ""
    chardevs = (f"socket,id=nic0,path={nic.socket}{role}", f"file,id=code,path={code}")
    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *(word for pair in options.items() for word in pair),
        *(word for chardev in chardevs for word in ("-chardev", chardev)),
        *("-serial", "mon:stdio", "-serial", "chardev:code"),
    ]


def _memory_file(content: bytes = b"") -> IO[bytes]:
    file = os.fdopen(os.memfd_create("virtbed-linux"), "w+b")
    file.write(content)
    file.flush()
    return file


def _path(file: IO[bytes]) -> str:
    return f"/proc/self/fd/{file.fileno()}"
