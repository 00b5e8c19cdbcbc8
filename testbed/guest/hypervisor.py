"""Asks the hypervisor who it is, as a kernel does when it boots.

Reference: Arm SMCCC (DEN0028) §6.1, §7.2. Not modelled: the conduit's discovery (PSCI); it is HVC.
"""

from typing import Protocol

from testbed.spec import smccc


class Caller(Protocol):
    """A vCPU that can make hypercalls."""

    def hvc(self, x0: int, x1: int = 0, x2: int = 0, x3: int = 0) -> tuple[int, int, int, int]:
        """Call the hypervisor; return X0 to X3."""
        ...


def find_hypervisor(vcpu: Caller) -> tuple[int, int] | None:
    """Return major and minor revision of the hypervisor's own service; None where it is another's."""
    version = vcpu.hvc(smccc.VERSION)[0]
    if version == smccc.NOT_SUPPORTED or vcpu.hvc(smccc.HYPERVISOR_UID) != smccc.UID:
        return None
    major, minor, _, _ = vcpu.hvc(smccc.HYPERVISOR_REVISION)
    return major, minor
