"""The window to a device's registers: what two processes of different age must agree on."""

from testbed.spec import bar_window as spec
from testbed.spec.vcpu_page import BELL


def test_bar_window_layout() -> None:
    window = spec.BAR_WINDOW
    offsets = {f.name: f.offset for f in window.fields}
    assert (window.size, spec.BAR_WRITE.size, spec.POSTED_MAX) == (12288, 16, 512)
    assert (offsets["produced"], offsets["consumed"], offsets["posted"]) == (128, 256, 4096)
    assert (offsets["read_number"], offsets["reply_number"], offsets["reply_value"]) == (192, 320, 328)
    assert BELL.size == spec.BELL_TO_DRIVER - spec.BELL_TO_DEVICE
    assert window.offset("to_driver_armed") - spec.BELL_TO_DRIVER == BELL.offset("armed")


def test_bar_window_words_of_two_writers_share_no_cache_line() -> None:
    theirs = {spec.BAR_WINDOW.offset(name) // 64 for name in ("produced", "read_number", "read_target")}
    ours = {spec.BAR_WINDOW.offset(name) // 64 for name in ("consumed", "reply_number", "reply_value")}
    assert not theirs & ours


def test_bar_window_target_word() -> None:
    word = spec.TARGET_FUNCTION.put(3) | spec.TARGET_SPACE.put(16) | spec.TARGET_SIZE.put(4)
    assert word == 0x0410_0003
