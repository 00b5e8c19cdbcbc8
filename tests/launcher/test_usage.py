"""What a process uses is read from /proc, and a guest's RAM can be left out."""

import mmap
import os
import subprocess
import sys

from launcher import usage

MIB = 1 << 20
RAM_BYTES = 32 * MIB
NO_INODE = -1
"""Anonymous memory is told with inode 0."""


def test_memory_of_one_file_can_be_left_out() -> None:
    file = os.memfd_create("ram")
    os.ftruncate(file, RAM_BYTES)
    with mmap.mmap(file, RAM_BYTES) as ram:
        for page in range(0, RAM_BYTES, mmap.PAGESIZE):
            ram[page] = 1
        everything = usage.pss_bytes_without(os.getpid(), NO_INODE)
        without = usage.pss_bytes_without(os.getpid(), os.fstat(file).st_ino)
    os.close(file)

    assert everything is not None
    assert without is not None
    assert abs(everything - without - RAM_BYTES) < RAM_BYTES // 8


def test_sum_of_mappings_is_the_rollup() -> None:
    rollup, mappings = usage.pss_bytes(os.getpid()), usage.pss_bytes_without(os.getpid(), NO_INODE)

    assert rollup is not None
    assert mappings is not None
    assert abs(rollup - mappings) < MIB


def test_cpu_time_grows_with_work() -> None:
    before = usage.cpu_seconds(os.getpid())
    while os.times().user + os.times().system < (before or 0) + 0.05:
        pass
    after = usage.cpu_seconds(os.getpid())

    assert before is not None
    assert after is not None
    assert after > before


def test_a_process_that_is_gone_uses_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert usage.cpu_seconds(process.pid) is None
    assert usage.pss_bytes(process.pid) is None
    assert usage.pss_bytes_without(process.pid, 1) is None
