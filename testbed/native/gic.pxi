"""The virtual CPU interface of a vCPU's page: the vCPU's side, the hypervisor's, and whoever sets virtual LPIs pending."""

cdef extern from "cpu_interface.h" nogil:
    ctypedef struct vcpu_page_t:
        uint32_t run_state, force_exit, cntv_ctl, ich_hcr, ich_vmcr, ich_ap0r, ich_ap1r, ich_misr
        uint64_t* ich_lr
        uint64_t* vlpi_pending
    ctypedef struct cpu_interface_t:
        vcpu_page_t* page
        const uint8_t* lpi_config
        uint32_t lpi_configs
        bint inside
    enum: GIC_LIST_REGISTERS
    uint32_t GIC_SPURIOUS
    uint16_t TRACE_ACKNOWLEDGED, TRACE_ENDED, TRACE_MUST_EXIT
    uint32_t GIC_HCR_TDIR_MASK
    uint32_t GIC_HCR_EN_MASK
    uint32_t LPI_LPI_FIRST
    uint32_t LPI_VLPIS
    uint32_t LPI_VLPI_WORDS
    uint32_t VCPU_PAGE_RUN_OUT
    uint32_t VCPU_PAGE_RUN_CLAIMED
    uint32_t icv_highest_pending(const cpu_interface_t*, uint32_t)
    uint32_t icv_acknowledge(cpu_interface_t*, uint32_t)
    void icv_end(cpu_interface_t*, uint32_t, uint32_t)
    void icv_deactivate(cpu_interface_t*, uint32_t)
    uint32_t icv_running_priority(const cpu_interface_t*)
    uint32_t icv_binary_point(const cpu_interface_t*, uint32_t)
    void icv_set_binary_point(cpu_interface_t*, uint32_t, uint32_t)
    bint icv_signals(const cpu_interface_t*)
    bint ich_update_status(vcpu_page_t*)
    bint vcpu_enter(cpu_interface_t*)
    void vcpu_leave(cpu_interface_t*)
    bint vcpu_has_event(const cpu_interface_t*)
    bint vlpi_set(vcpu_page_t*, uint32_t)
    bint vlpi_clear(vcpu_page_t*, uint32_t)

cdef extern from *:
    """
    #define load_u64(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define store_u64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define load_u32(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define store_u32(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    static int claim_u32(uint32_t* word, uint32_t expected, uint32_t desired) {
      return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    }
    """
    uint64_t load_u64(const uint64_t*) nogil
    void store_u64(uint64_t*, uint64_t) nogil
    uint32_t load_u32(const uint32_t*) nogil
    void store_u32(uint32_t*, uint32_t) nogil
    bint claim_u32(uint32_t*, uint32_t, uint32_t) nogil


cdef vcpu_page_t* _vcpu_page(Pinned page, Py_ssize_t offset) except NULL:
    return <vcpu_page_t*>_at(page, offset, sizeof(vcpu_page_t))

cdef bint _cpu_ready(void* what) noexcept nogil:
    cdef cpu_interface_t* cpu = <cpu_interface_t*>what
    return not cpu.inside or vcpu_has_event(cpu)

cdef bint _cpu_arm(void* what) noexcept nogil:
    cdef cpu_interface_t* cpu = <cpu_interface_t*>what
    vcpu_leave(cpu)
    full_fence()
    return vcpu_has_event(cpu)

cdef void _cpu_disarm(void* what) noexcept nogil:
    vcpu_enter(<cpu_interface_t*>what)


cdef class VirtualCpuInterface(Watched):
    """The vCPU's side of its page: ICV_* registers, and what to watch for.

    Ready while an interrupt is signalled, the hypervisor wants the vCPU out, or it has not entered. Armed, the vCPU is out (it waits for an
    interrupt) and its list registers may be claimed; it enters again when it is disarmed, or by `enter`.
    """

    cdef cpu_interface_t cpu
    cdef Pinned page, lpi_table

    def __init__(self, Pinned page not None, Py_ssize_t offset=0):
        self.page = page
        self.cpu.page = _vcpu_page(page, offset)
        self.w = watched(&self.cpu, _cpu_ready, _cpu_arm, _cpu_disarm, True)

    def use_lpi_table(self, Pinned table not None, Py_ssize_t offset, uint32_t size_bytes):
        """Have virtual LPIs configured by these bytes of the guest's memory, the first for INTID 8192."""
        self.cpu.lpi_config = _at(table, offset, size_bytes)
        self.cpu.lpi_configs = size_bytes
        self.lpi_table = table

    def enter(self):
        """Run guest code; False: the hypervisor is at the list registers, try again."""
        return bool(vcpu_enter(&self.cpu))

    @property
    def must_exit(self):
        """The hypervisor wants the vCPU out."""
        if load_acquire_u32(&self.cpu.page.force_exit) == 0:
            return False
        trace_event(TRACE_MUST_EXIT, 0, 0, 0, 0, 0)
        return True

    @property
    def signals(self):
        """An interrupt is signalled to the vCPU."""
        return bool(icv_signals(&self.cpu))

    @property
    def maintenance(self):
        """ICH_MISR_EL2: not 0 while the maintenance interrupt is asserted."""
        ich_update_status(self.cpu.page)
        return load_u32(&self.cpu.page.ich_misr)

    def acknowledge(self, uint32_t group=1):
        """ICV_IAR<group>: return the INTID taken, 1023 where there is none to take."""
        cdef uint32_t intid = icv_acknowledge(&self.cpu, group)
        if intid != GIC_SPURIOUS:
            trace_event(TRACE_ACKNOWLEDGED, 0, intid, 0, 0, 0)
        return intid

    def end(self, uint32_t intid, uint32_t group=1):
        """ICV_EOIR<group>: drop the priority and, with EOImode 0, deactivate."""
        trace_event(TRACE_ENDED, 0, intid, 0, 0, 0)
        icv_end(&self.cpu, group, intid)

    def deactivate(self, uint32_t intid):
        """ICV_DIR: deactivate, with EOImode 1."""
        icv_deactivate(&self.cpu, intid)

    def highest_pending(self, uint32_t group=1):
        """ICV_HPPIR<group>."""
        return icv_highest_pending(&self.cpu, group)

    @property
    def running_priority(self):
        """ICV_RPR."""
        return icv_running_priority(&self.cpu)

    def active_priorities(self, uint32_t group=1):
        """ICV_AP<group>R0."""
        return load_u32(&self.cpu.page.ich_ap1r if group else &self.cpu.page.ich_ap0r)

    def binary_point(self, uint32_t group=1):
        """ICV_BPR<group>."""
        return icv_binary_point(&self.cpu, group)

    def set_binary_point(self, uint32_t value, uint32_t group=1):
        """Write ICV_BPR<group>."""
        icv_set_binary_point(&self.cpu, group, value)

    @property
    def traps_deactivate(self):
        """ICH_HCR_EL2.TDIR: a write of ICC_DIR is an exit."""
        return load_u32(&self.cpu.page.ich_hcr) & GIC_HCR_TDIR_MASK != 0

    @property
    def vmcr(self):
        """ICH_VMCR_EL2, in which PMR, EOImode, CBPR and the group enables are."""
        return load_u32(&self.cpu.page.ich_vmcr)

    def change_vmcr(self, uint32_t mask, uint32_t value):
        """Give the bits of `mask` a value, as writes of ICV_PMR, ICV_CTLR and ICV_IGRPEN do."""
        cdef uint32_t vmcr = load_u32(&self.cpu.page.ich_vmcr)
        store_u32(&self.cpu.page.ich_vmcr, (vmcr & ~mask) | (value & mask))
        ich_update_status(self.cpu.page)


cdef class ListRegisters:
    """The hypervisor's side of a vCPU's page: ICH_* registers and who has them."""

    cdef vcpu_page_t* at
    cdef Pinned page
    cdef uint64_t stored[GIC_LIST_REGISTERS]

    def __init__(self, Pinned page not None, Py_ssize_t offset=0):
        self.page = page
        self.at = _vcpu_page(page, offset)

    @property
    def quiet(self):
        """The registers are as they were stored, everything pending is in them, and no timer runs."""
        cdef vcpu_page_t* at = self.at
        cdef uint32_t slot
        if load_u32(&at.ich_hcr) != GIC_HCR_EN_MASK or load_u32(&at.cntv_ctl):
            return False
        for slot in range(<uint32_t>GIC_LIST_REGISTERS):
            if load_u64(at.ich_lr + slot) != self.stored[slot]:
                return False
        return True

    def claim(self):
        """Take the registers of a vCPU that waits; False: it runs."""
        return bool(claim_u32(&self.at.run_state, VCPU_PAGE_RUN_OUT, VCPU_PAGE_RUN_CLAIMED))

    def release(self):
        """Give a claim back: what was stored is seen by the vCPU that enters."""
        store_release_u32(&self.at.run_state, VCPU_PAGE_RUN_OUT)

    def ask_exit(self):
        """Ask a running vCPU to leave; the caller rings its bell afterwards."""
        store_release_u32(&self.at.force_exit, 1)

    def exit_taken(self):
        """Ask no longer: the vCPU is out."""
        store_release_u32(&self.at.force_exit, 0)

    def load(self):
        """Return the list registers, ICH_HCR and ICH_VMCR, a tuple."""
        cdef vcpu_page_t* at = self.at
        return (
            load_u64(at.ich_lr), load_u64(at.ich_lr + 1), load_u64(at.ich_lr + 2), load_u64(at.ich_lr + 3),
            load_u32(&at.ich_hcr), load_u32(&at.ich_vmcr),
        )

    def store(self, list_registers, uint32_t hcr):
        """Fill the list registers in order, empty the rest, and set ICH_HCR."""
        cdef uint32_t slot = 0
        for value in list_registers:
            if slot == GIC_LIST_REGISTERS:
                raise ValueError(f"there are {GIC_LIST_REGISTERS} list registers")
            self.stored[slot] = value
            slot += 1
        while slot < GIC_LIST_REGISTERS:
            self.stored[slot] = 0
            slot += 1
        # what was stored is remembered here, not read back: the guest writes there, too
        for slot in range(<uint32_t>GIC_LIST_REGISTERS):
            store_u64(self.at.ich_lr + slot, self.stored[slot])
        store_u32(&self.at.ich_hcr, hcr)
        ich_update_status(self.at)

    @property
    def vmcr(self):
        """ICH_VMCR_EL2."""
        return load_u32(&self.at.ich_vmcr)

    @vmcr.setter
    def vmcr(self, uint32_t value):
        store_u32(&self.at.ich_vmcr, value)


cdef class VlpiPending:
    """The pending virtual LPIs of one vCPU, for whoever sets and clears them; every operation is atomic against the vCPU and all others."""

    cdef vcpu_page_t* at
    cdef Pinned page

    def __init__(self, Pinned page not None, Py_ssize_t offset=0):
        self.page = page
        self.at = _vcpu_page(page, offset)

    cdef uint32_t _lpi(self, uint32_t intid) except? 0xFFFFFFFF:
        if not LPI_LPI_FIRST <= intid < LPI_LPI_FIRST + LPI_VLPIS:
            raise ValueError(f"a virtual LPI is one of {LPI_LPI_FIRST} to {LPI_LPI_FIRST + LPI_VLPIS - 1}, not {intid}")
        return intid - LPI_LPI_FIRST

    def set(self, uint32_t intid):
        """Make one pending; True: it was. A full fence follows: look at residency, then ring the bell."""
        return bool(vlpi_set(self.at, self._lpi(intid)))

    def clear(self, uint32_t intid):
        """Take one back; True: it was pending, and is the caller's now."""
        return bool(vlpi_clear(self.at, self._lpi(intid)))

    def pending(self):
        """Return the INTIDs pending, ascending."""
        cdef list found = []
        cdef uint32_t word
        for word in range(LPI_VLPI_WORDS):
            _add_bits(found, load_acquire_u64(self.at.vlpi_pending + word), LPI_LPI_FIRST + 64 * word)
        return found
