"""The exit's syndromes and hypercalls against numbers typed from the standards."""

from testbed.spec import smccc, vcpu_page


def test_exit_qualification_of_an_io_instruction() -> None:
    """Intel SDM volume 3, table 28-5."""
    fields = {
        "SIZE": (vcpu_page.IO_SIZE, 0x7),
        "IN": (vcpu_page.IO_IN, 0x8),
        "STRING": (vcpu_page.IO_STRING, 0x10),
        "REP": (vcpu_page.IO_REP, 0x20),
        "IMMEDIATE": (vcpu_page.IO_IMMEDIATE, 0x40),
        "PORT": (vcpu_page.IO_PORT, 0xFFFF_0000),
    }
    assert {name: bits.mask for name, (bits, _) in fields.items()} == {n: m for n, (_, m) in fields.items()}
    assert vcpu_page.EXIT_IO_INSTRUCTION == 30


def test_esr_of_a_data_abort_and_of_hvc() -> None:
    """DDI 0487 D17.2.37."""
    assert (vcpu_page.ESR_EC.mask, vcpu_page.ESR_IL.mask) == (0xFC00_0000, 0x0200_0000)
    assert (vcpu_page.ISS_ISV.mask, vcpu_page.ISS_SAS.mask) == (0x0100_0000, 0x00C0_0000)
    assert (vcpu_page.ISS_WNR.mask, vcpu_page.ISS_DFSC.mask) == (0x40, 0x3F)
    assert (vcpu_page.EC_DATA_ABORT_LOWER, vcpu_page.EC_HVC64) == (0x24, 0x16)
    assert (vcpu_page.ESR_MMIO_MASK, vcpu_page.ESR_MMIO) == (0xFD00_0000, 0x9100_0000)
    assert (vcpu_page.ESR_SAS_SHIFT, vcpu_page.ESR_WNR_MASK) == (22, 0x40)


def test_function_identifiers() -> None:
    """DEN0028 §2.5, §6.1, §7."""
    assert (smccc.VERSION, smccc.ARCH_FEATURES) == (0x8000_0000, 0x8000_0001)
    assert (smccc.HYPERVISOR_UID, smccc.HYPERVISOR_REVISION) == (0x8600_FF01, 0x8600_FF03)
    assert (smccc.VERSION_1_1, smccc.SUCCESS, smccc.NOT_SUPPORTED) == (0x10001, 0, (1 << 64) - 1)
    for function in (smccc.HYPERVISOR_UID, smccc.HYPERVISOR_REVISION):
        assert smccc.FUNCTION_OWNER.get(function) == smccc.OWNER_VENDOR_HYPERVISOR == 6
        assert (smccc.FUNCTION_FAST.get(function), smccc.FUNCTION_SMC64.get(function)) == (1, 0)
