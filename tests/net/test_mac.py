"""MAC addresses as text: one form is taken, everything else is refused with the rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ConfigError
from testbed.net.mac import format_mac, parse_mac


@given(st.binary(min_size=6, max_size=6))
def test_mac_text_of_six_bytes_parses_back(mac: bytes) -> None:
    assert parse_mac(format_mac(mac)) == mac
    assert parse_mac(format_mac(mac).upper()) == mac


def test_mac_text_is_in_transmission_order() -> None:
    assert parse_mac("02:00:5e:10:00:ff") == bytes([0x02, 0x00, 0x5E, 0x10, 0x00, 0xFF])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "02-00-00-00-00-01",
        "020000000001",
        "02:00:00:00:00:0g",
        "2:0:0:0:0:1",
        " 02:00:00:00:00:01",
        "02:00:00:00:00:01\n",
    ],
)
def test_mac_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_mac(text)
    assert str(refused.value) == (
        f"a MAC address is six hexadecimal bytes with colons, as 02:00:00:00:00:01, not {text!r}"
    )
