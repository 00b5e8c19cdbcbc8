"""TAP devices and addresses of the network namespace that the calling thread is in.

Reference: the kernel's Documentation/networking/tuntap.rst, netdevice(7), linux/if_tun.h, linux/sockios.h. A
device is not persistent: it goes with the last descriptor of it. Not modelled: several queues.
"""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from testbed.spec.virtio_net import NET_HDR

TUN_DEVICE: Final = "/dev/net/tun"
LOOPBACK: Final = "lo"
QUEUE_FRAMES: Final = 4096
"""What a stack may have sent and the NIC not yet taken; the kernel drops what is more."""
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUNSETOFFLOAD: Final = 0x400454D0
_TUN_F_CSUM_TSO: Final = 0x7
"""TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6."""
_TUNSETVNETHDRSZ: Final = 0x400454D8
_INT: Final = struct.Struct("i")
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFINDEX: Final = 0x8933
_SIOCSIFTXQLEN: Final = 0x8943
_IFF_UP: Final = 1
_ARPHRD_ETHER: Final = 1
_FLAGS: Final = struct.Struct("16sH22x")
_NUMBER: Final = struct.Struct("16si20x")
_HARDWARE: Final = struct.Struct("16sH6s16x")
_INET: Final = struct.Struct("16sHH4s16x")
_INET6: Final = struct.Struct("16sIi")


def open_tap(interface: str, *, offload: bool = False) -> int:
    """Make a TAP device in this namespace and return its descriptor, which does not block.

    Frames have a virtio_net_hdr in front; with `offload` TCP comes and goes in frames of up to 64 KiB. Raises
    OSError as the system refuses it.
    """
    descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(descriptor, _TUNSETIFF, _FLAGS.pack(interface.encode(), flags))
        fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, _INT.pack(NET_HDR.size))
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _TUN_F_CSUM_TSO if offload else 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def configure(interface: str, mac: str, mtu: int, address: str) -> None:
    """Give a device its addresses and MTU and bring it up. Raises OSError as the system refuses it."""
    name, ip = interface.encode(), ipaddress.ip_interface(address)
    with _control() as control:
        hardware = bytes.fromhex(mac.replace(":", ""))
        fcntl.ioctl(control, _SIOCSIFHWADDR, _HARDWARE.pack(name, _ARPHRD_ETHER, hardware))
        fcntl.ioctl(control, _SIOCSIFMTU, _NUMBER.pack(name, mtu))
        fcntl.ioctl(control, _SIOCSIFTXQLEN, _NUMBER.pack(name, QUEUE_FRAMES))
        if isinstance(ip, ipaddress.IPv4Interface):
            fcntl.ioctl(control, _SIOCSIFADDR, _inet(name, ip.ip))
            fcntl.ioctl(control, _SIOCSIFNETMASK, _inet(name, ip.netmask))
    bring_up(interface)
    if isinstance(ip, ipaddress.IPv6Interface):
        _add_inet6(interface, ip)


def bring_up(interface: str) -> None:
    """Set a device's IFF_UP. Raises OSError as the system refuses it."""
    with _control() as control:
        old = fcntl.ioctl(control, _SIOCGIFFLAGS, _FLAGS.pack(interface.encode(), 0))
        flags = _FLAGS.unpack(old)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _FLAGS.pack(interface.encode(), flags | _IFF_UP))


def _add_inet6(interface: str, ip: ipaddress.IPv6Interface) -> None:
    """Add an address that can be used at once: nobody else on this link chooses addresses by himself."""
    Path(f"/proc/sys/net/ipv6/conf/{interface}/accept_dad").write_text("0")
    with _control(socket.AF_INET6) as control:
        index = _NUMBER.unpack(fcntl.ioctl(control, _SIOCGIFINDEX, _NUMBER.pack(interface.encode(), 0)))[1]
        fcntl.ioctl(control, _SIOCSIFADDR, _INET6.pack(ip.ip.packed, ip.network.prefixlen, index))


def _inet(name: bytes, ip: ipaddress.IPv4Address) -> bytes:
    return _INET.pack(name, socket.AF_INET, 0, ip.packed)


@contextmanager
def _control(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_DGRAM) as control:
        yield control
