"""`virtbed vf`: settings as they are typed, the table, and questions to a running topology's vmms."""

import io
import re

import pytest
from rich.console import Console

from launcher.cli_vf import read_settings
from launcher.vf_table import vf_view
from testbed.errors import ConfigError
from testbed.messages.control import NicState
from tests.messages.test_control import VF


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("link down", {"link": False}),
        ("link up trust on", {"link": True, "trust": True}),
        ("drop on", {"drop": True}),
        ("mac 02:AA:00:00:00:01 vlan 7", {"mac": "02:AA:00:00:00:01", "vlan": 7}),
        ("rate 100Mbit spoof-check off", {"rate_bits_per_second": 100_000_000, "spoof_check": False}),
        ("rate 0 vlan 0", {"rate_bits_per_second": 0, "vlan": 0}),
    ],
)
def test_settings_are_pairs_of_key_and_value(words: str, changes: dict[str, object]) -> None:
    assert read_settings(words.split()) == changes


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("link", "each setting has a value: link has none"),
        ("lnik up", "a virtual function has no setting lnik (did you mean link?)"),
        ("colour red", "a virtual function has no setting colour; there are mac, vlan"),
        ("link maybe", "link: is up or down, not maybe"),
        ("trust yes", "trust: is on or off, not yes"),
        ("vlan -1", "vlan: is a number, 0 for none, not -1"),
        ("rate 100k", "rate: is in bits a second, as 100Mbit"),
        ("link up link down", "link is given twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(rule)):
        read_settings(words.split())


def drawn(*nics: NicState) -> str:
    console = Console(width=140, file=io.StringIO())
    with console.capture() as capture:
        console.print(vf_view(nics))
    return capture.get()


def test_the_table_says_who_has_what() -> None:
    text = drawn(NicState(name="nic0", link_up=True, vfs=(VF,)))
    for part in ("nic0, link up", "02:00:00:00:00:01", "running", "1000 Mbit/s", "spoof-check"):
        assert part in text


def test_a_topology_without_virtual_functions_says_so() -> None:
    assert "no NIC has virtual functions" in drawn()
