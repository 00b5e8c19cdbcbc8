"""What a Linux guest boots from: modules in loading order, an archive for cpio, a script for sh."""

import subprocess
from pathlib import Path

import pytest

from launcher.linux_guest import LinuxGuest, Nic, qemu_command
from launcher.linux_guest_image import Kernel, Setting, archive, init_script, needed_modules
from testbed.errors import MachineError
from tests.support.peers import needs

DEPENDENCIES = """\
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/net/core/failover.ko:
kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko \
kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
"""
KERNEL = Kernel(Path("/boot/vmlinuz-1"), Path("/lib/modules/1"))
SETTING = Setting("lin", "10.0.0.9/24", ("echo", "it's"))


def test_modules_are_loaded_after_what_they_need_and_once() -> None:
    order = [Path(path).stem for path in needed_modules(DEPENDENCIES, ("virtio_pci", "virtio_net"))]
    assert order == ["virtio_ring", "virtio", "virtio_pci", "failover", "virtio_net"]


def test_a_module_that_is_not_there_is_told() -> None:
    with pytest.raises(MachineError, match="the module virtio_blk, which its kernel has not"):
        needed_modules(DEPENDENCIES, ("virtio_blk",))


@needs("busybox")
def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    files = {"init": b"#!/bin/sh\n", "lib/a.ko": bytes(range(256)), "lib/empty": b""}
    data = archive(("lib", "proc"), files)
    subprocess.run(["busybox", "cpio", "-i"], input=data, cwd=tmp_path, check=True, capture_output=True)
    assert {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
    assert (tmp_path / "proc").is_dir()
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("setting", [SETTING, Setting("lin", "")])
def test_sh_reads_the_script(setting: Setting) -> None:
    text = init_script(setting, ["a.ko"])
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert ("ip addr add 10.0.0.9/24 dev eth0" in text) == bool(setting.address)
    assert ("echo 'it'\"'\"'s'" in text) == bool(setting.program)
    assert "insmod /lib/a.ko" in text


def test_qemu_shares_the_guests_memory_and_has_no_msix() -> None:
    nic = Nic(Path("/run/x.sock"), "02:00:00:00:00:01", queue_pairs=2, packed=True)
    command = qemu_command(LinuxGuest(SETTING, nic), KERNEL, "/proc/self/fd/3", "/proc/self/fd/4")
    device = next(word for word in command if word.startswith("virtio-net-pci"))
    assert {"vectors=0", "mq=on", "packed=on", "mac=02:00:00:00:00:01"} <= set(device.split(","))
    assert "memory-backend-memfd,id=ram,size=128M,share=on" in command
    assert "vhost-user,id=nic0,chardev=nic0,queues=2" in command
    assert "socket,id=nic0,path=/run/x.sock" in command
    assert command[command.index("-smp") + 1] == "2"
