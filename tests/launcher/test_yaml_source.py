"""YAML with lines: what plain words mean, where values are, and one clear line for what is not YAML."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.yaml_source import DEPTH_MAX, Document, parse_document, read_document
from testbed.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("012", 12),
        ("0x10", 16),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        (".inf", ".inf"),
        ("1" * 50, "1" * 50),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(word: str, value: object) -> None:
    assert parse_document(f"key: {word}", "f").data == {"key": value}


def test_each_value_has_its_line() -> None:
    document = parse_document("a: 1\nb:\n  - x\n  - c: 2\n    d: 3\n\ne: 4\n", "f")
    assert document.line(("a",)) == 1
    assert document.line(("b",)) == 2
    assert document.line(("b", 0)) == 3
    assert document.line(("b", 1, "d")) == 5
    assert document.line(("e",)) == 7
    assert document.line(("b", 1, "missing", "deeper")) == 4


def test_merge_keys_and_their_lines() -> None:
    text = "x: &x {m: 1, n: {p: 2}}\ny: &y {m: 5, q: 6}\na:\n  <<: *x\n  n: 7\nb: {<<: [*x, *y], r: 8}\n"
    document = parse_document(text, "f")
    assert document.data["a"] == {"m": 1, "n": 7}
    assert document.data["b"] == {"m": 1, "q": 6, "n": {"p": 2}, "r": 8}
    assert document.line(("a", "m")) == 1
    assert document.line(("a", "n")) == 5
    assert ("a", "n", "p") not in document.lines
    assert document.line(("b", "q")) == 2


def test_an_alias_is_the_same_data_at_another_place() -> None:
    document = parse_document("a: &x [1, 2]\nb: *x\n", "f")
    assert document.data["b"] == [1, 2]


def told(text: str) -> list[str]:
    return [problem.told("f") for problem in parse_document(text, "f").problems]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3: a: is given twice, first on line 1"),
        ("a:\n  b: 1\n  b: 2\n", "f:3: a.b: is given twice, first on line 2"),
        ("a: !thing 3\n", 'f:1: a: the YAML tag "!thing" has no meaning here: leave it out'),
        ("a: !!int x\n", 'f:1: a: must be of the YAML type int, not "x"'),
        ("a: {[1]: 2}\n", "f:1: a: a key must be a word, not a list or a mapping"),
        ("a: {<<: 7}\n", "f:1: a: << must name a mapping, not 7"),
    ],
)
def test_mistakes_that_do_not_stop_the_reading(text: str, line: str) -> None:
    assert told(text) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f: is empty: a topology needs at least `name` and `guests`"),
        ("# only a comment\n", "f: is empty: a topology needs at least `name` and `guests`"),
        ("- 1\n", "f:1: must be a mapping with `name` and `guests`, not [1]"),
        ("hello", 'f:1: must be a mapping with `name` and `guests`, not "hello"'),
        ("a: [1, 2\nb: 3\n", "f:2: is not valid YAML: while parsing a flow sequence"),
        ("a: 1\n\tb: 2\n", "f:2: is not valid YAML: while scanning for the next token"),
        ("a: *x\n", "f:1: is not valid YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "f:2: is not valid YAML: holds several documents (`---`): one topology a file"),
        ('a: "\\UFFFFFFFF"', "f: is not valid YAML: "),
        ("%YAML 1.99999999999\n---\na: 1\n", ""),
        ("a: \x01\n", "f: is not a text file: character 0x1 is not allowed in YAML"),
        (
            "a: &a [*a]\n",
            f"f:1: is nested deeper than the {DEPTH_MAX} levels allowed (an anchor inside itself?)",
        ),
        ("a: &a {<<: *a}\n", f"f:1: is nested deeper than the {DEPTH_MAX} levels allowed"),
        ("[" * 5000, f"f: is nested deeper than the {DEPTH_MAX} levels allowed"),
    ],
)
def test_what_is_not_a_document_is_one_clear_line(text: str, line: str) -> None:
    if not line:
        assert parse_document(text, "f").data == {"a": 1}
        return
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f")
    (problem,) = caught.value.problems
    assert problem.startswith(line)
    assert "\n" not in problem


def test_anchors_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 500000 values once its anchors are expanded"):
        parse_document("\n".join(lines), "f")


def test_merges_that_explode_are_refused() -> None:
    levels = [f"x-{n}: &{n} [{', '.join(['*' + chr(ord(n) - 1)] * 10)}]" for n in "bcdefghij"]
    text = "\n".join(["x-a: &a []", *levels, "<<: *j", ""])
    with pytest.raises(ConfigError, match="more than 500000 values once its anchors are expanded"):
        parse_document(text, "f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file$"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"is a directory, not a topology file$"):
        read_document(tmp_path)
    (tmp_path / "binary").write_bytes(b"\x7fELF\x02\xff\xfe")
    with pytest.raises(ConfigError, match=r"is not a text file: byte 5 is not UTF-8$"):
        read_document(tmp_path / "binary")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(Path("a\0b"))
    (tmp_path / "file").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"cannot be read: Not a directory$"):
        read_document(tmp_path / "file" / "below")


def test_a_byte_order_mark_is_not_content(tmp_path: Path) -> None:
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "bom").data == {"a": 1}


@given(st.text() | st.text(alphabet="ab:-[]{},&*!|>'\"%#?<~ \n\t0.", max_size=60))
@example("&a : *a")
@example("? ? ? a")
@example("a: !!map [1]")
@example("<<: {}")
@example("a: !<tag:yaml.org,2002:merge> 3")
def test_any_text_is_a_document_or_a_config_error(text: str) -> None:
    outcome = outcome_of(text)
    if isinstance(outcome, Document):
        assert all(line >= 1 for line in outcome.lines.values())
    else:
        assert len(outcome) == 1
        assert "\n" not in outcome[0]


def outcome_of(text: str) -> Document | tuple[str, ...]:
    try:
        return parse_document(text, "f")
    except ConfigError as error:
        return error.problems
