"""The mailbox between a virtual function's driver and the physical function's: words and messages.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), §7.10.2.9 for the
hardware (16 words, a control register on each side); the messages are a protocol of drivers: that of igb and
igbvf, as recorded from Linux 6.1. A message's first word has the type in bits 7:0 (PF_CONTROL: bit 8),
information in 23:16 and flags in 31:29.
"""

from typing import Final

from testbed.spec.layout import Bits

WORDS: Final = 16

TYPE_MASK: Final = 0xFFFF
INFO: Final = Bits("INFO", 16, 8)
ACK: Final = 0x8000_0000
NACK: Final = 0x4000_0000
CTS: Final = 0x2000_0000
"""In an answer: the VF may go on to send. In a message of the PF without it: the VF must reset first."""

RESET: Final = 0x01
"""No arguments. Answer: ACK and the address in words 1 and 2, or NACK and zeros where there is none."""
SET_MAC_ADDR: Final = 0x02
"""Words 1 and 2: address, first byte lowest."""
SET_MULTICAST: Final = 0x03
"""INFO: how many hashes; from word 1 on, 16 bits each."""
SET_VLAN: Final = 0x04
"""INFO: 1 to add, 0 to remove; word 1: VLAN ID."""
SET_LPE: Final = 0x05
"""Word 1: longest frame in bytes, with header and FCS."""
SET_PROMISC: Final = 0x06
"""INFO: PROMISC_MULTICAST or 0."""
PF_CONTROL: Final = 0x0100
"""From the PF, unasked: something about the link changed."""

MAC_FILTER_CLEAR: Final = 1
MAC_FILTER_ADD: Final = 2
"""SET_MAC_ADDR with these in INFO is about further addresses."""
VLAN_REMOVE: Final = 0
VLAN_ADD: Final = 1
PROMISC_MULTICAST: Final = 2
MULTICAST_HASHES_MAX: Final = 30
"""What the words behind the first can hold."""
MULTICAST_EVERYTHING: Final = 0xFF
"""In INFO: more hashes than a message holds; the PF lets every multicast frame pass."""
HASH_BITS: Final = 12
FRAME_MAX_BYTES: Final = 9728
"""The longest that VMOLR.RLPML may be set to for a VF."""
