"""MAC addresses as text and bytes. Reference: IEEE 802-2014 §8."""

import re
from typing import Final

from testbed.errors import ConfigError

_TEXT: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


def parse_mac(text: str) -> bytes:
    """Return the six bytes of `02:00:00:00:00:01`; ConfigError for anything else."""
    if not _TEXT.fullmatch(text):
        raise ConfigError(
            f"a MAC address is six hexadecimal bytes with colons, as 02:00:00:00:00:01, not {text!r}"
        )
    return bytes.fromhex(text.replace(":", ""))


def format_mac(mac: bytes) -> str:
    """Return the usual text of six bytes."""
    return mac.hex(":")
