"""Every kind of NIC a guest can have: a file a kind, and here the unions.

Adding a kind: its file with a section (`NicSection`) and a record (`NicRecord`), its entry in
testbed/messages/entries.py, and both names in the unions below; the rest of the launcher asks the section and
the record.
"""

from typing import Annotated

from launcher.nics.e1000 import E1000, E1000Section
from launcher.nics.vf import Vf, VfSection
from launcher.nics.virtio_net import VirtioNet, VirtioNetSection
from launcher.rules import OneOf

__all__ = ["E1000", "AnyNicSection", "Nic", "NicModel", "Vf", "VfSection", "VirtioNet"]

AnyNicSection = VirtioNetSection | E1000Section | VfSection
"""Every kind of NIC as the file has it."""
NicModel = Annotated[AnyNicSection, OneOf(VirtioNetSection, E1000Section, VfSection)]
"""The same, for checks and editors."""
Nic = VirtioNet | E1000 | Vf
"""Every kind of NIC of a topology."""
