"""YAML text to plain data plus the line of every value, so that an error can say where it is.

Reference: YAML 1.2 core schema (§10.3) for what a plain word means, on PyYAML's composer: `yes`, `on` and
`52:54:00:12:34:56` are text, not booleans and base-60 numbers. Anchors, aliases and merge keys (`<<`) work.
Not taken: several documents in a file, tags of one's own. Hostile text is bounded: nesting, values after
aliases are expanded, and file size.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

import yaml

from launcher.problems import Path, Problem
from launcher.units import shown
from testbed.errors import ConfigError

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

FILE_BYTES_MAX: Final = 16 << 20
VALUES_MAX: Final = 500_000
DEPTH_MAX: Final = 32
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_PLAIN: Final = _TAG + "plain"
_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Document:
    """A file's data, the line (from 1) of each value, and the mistakes that did not stop its reading."""

    file: str
    data: dict[str, Plain]
    lines: dict[Path, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path) -> int:
        """Return the line of a value, or of the nearest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_document(path: FilePath) -> Document:
    """Read a YAML file whose root is a mapping; raises ConfigError with one line where it is not one."""
    return parse_document(_read_text(path), str(path))


def parse_document(text: str, file: str) -> Document:
    """Turn YAML text into a document; `file` is its name in errors. Raises ConfigError."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        reader = _Reader()
        data = reader.value(root, (), 0) if root is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(_syntax(file, error)) from None
    except _TooMuch as error:
        raise ConfigError(Problem(error.line, str(error)).told(file)) from None
    except RecursionError:
        raise ConfigError(f"{file}: is nested deeper than the {DEPTH_MAX} levels allowed") from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets these through from an escape or a version number that is out of range.
        raise ConfigError(f"{file}: is not valid YAML: {error}") from None
    if data is None and not reader.problems:
        raise ConfigError(f"{file}: is empty: a topology needs at least `name` and `guests`")
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: must be a mapping with `name` and `guests`, not {shown(data)}")
    return Document(file, data, reader.lines, tuple(reader.problems))


def _read_text(path: FilePath) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory, not a topology file")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{shown(str(path))}: cannot be read: {reason}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(
            f"{path}: is larger than the {FILE_BYTES_MAX >> 20} MiB that a topology file may have"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file: byte {error.start} is not UTF-8") from None


def _syntax(file: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        return f"{file}: is not a text file: character {error.character:#x} is not allowed in YAML"
    context = getattr(error, "context", None)
    what = getattr(error, "problem", None) or str(error)
    if what.startswith("but found another document"):
        context, what = None, "holds several documents (`---`): one topology a file"
    text = ", ".join(part for part in (context, what) if part)
    return Problem(mark.line + 1 if mark else 0, f"is not valid YAML: {text}").told(file)


class _Loader(yaml.SafeLoader):
    """Marks plain words instead of resolving them, so that this module alone decides what they mean."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]


class _TooMuch(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class _Reader:
    """Walks the composed nodes once, noting lines."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def _count(self, node: yaml.Node, depth: int) -> None:
        """Keep the bounds, whichever way a node is come to."""
        self._values += 1
        line = node.start_mark.line + 1
        if depth > DEPTH_MAX:
            raise _TooMuch(
                line, f"is nested deeper than the {DEPTH_MAX} levels allowed (an anchor inside itself?)"
            )
        if self._values > VALUES_MAX:
            raise _TooMuch(line, f"has more than {VALUES_MAX} values once its anchors are expanded")

    def value(self, node: yaml.Node, path: Path, depth: int) -> Plain:
        self._count(node, depth)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            self._tag(node, path, "map")
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            self._tag(node, path, "seq")
            return [self.value(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Plain]:
        result: dict[str, Plain] = {}
        for _, merged in self._pairs(node, path, merge=True):
            result |= self._merged(merged, path, depth)
        seen: dict[str, int] = {}
        for key, item in self._pairs(node, path, merge=False):
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                problem = f"is given twice, first on line {seen[name]}"
                self.problems.append(Problem(line, problem, (*path, name)))
                continue
            self._forget((*path, name), result.get(name))
            seen[name] = self.lines[(*path, name)] = line
            result[name] = self.value(item, (*path, name), depth + 1)
        return result

    def _forget(self, path: Path, merged: Plain) -> None:
        """Drop the lines of a merged value that an explicit key replaces."""
        self.lines.pop(path, None)
        children = (
            merged.items()
            if isinstance(merged, dict)
            else enumerate(merged)
            if isinstance(merged, list)
            else ()
        )
        for step, child in children:
            self._forget((*path, step), child)

    def _pairs(
        self, node: yaml.MappingNode, path: Path, merge: bool
    ) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                if not merge:
                    line = key.start_mark.line + 1
                    self.problems.append(Problem(line, "a key must be a word, not a list or a mapping", path))
            elif (key.tag == _MERGE) is merge:
                yield key, item

    def _merged(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Plain]:
        """Resolve what `<<` names: a mapping, or a list of mappings of which the first one wins."""
        line = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            self._count(node, depth)
            result: dict[str, Plain] = {}
            for item in reversed(node.value):
                result |= self._merged(item, path, depth + 1)
            return result
        value = self.value(node, path, depth + 1)
        if isinstance(value, dict):
            return value
        self.problems.append(Problem(line, f"<< must name a mapping, not {shown(value)}", path))
        return {}

    def _scalar(self, node: yaml.Node, path: Path) -> Plain:
        text = str(node.value)
        tag = node.tag.removeprefix(_TAG)
        convert = _CONVERT.get(tag)
        if convert is None:
            self._tag(node, path, "str")
            return text
        value = convert(text)
        if value is None and tag not in ("null", "plain"):
            line = node.start_mark.line + 1
            self.problems.append(Problem(line, f"must be of the YAML type {tag}, not {shown(text)}", path))
        return value

    def _tag(self, node: yaml.Node, path: Path, expected: str) -> None:
        if node.tag.removeprefix(_TAG) != expected:
            text = f"the YAML tag {shown(node.tag)} has no meaning here: leave it out"
            self.problems.append(Problem(node.start_mark.line + 1, text, path))


def _plain(text: str) -> Plain:
    """Give a plain scalar its meaning (YAML 1.2 §10.3.2)."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    number = _int(text)
    if number is None:
        return _float(text) if len(text) <= 40 and any(c.isdigit() for c in text) else text
    return number


def _int(text: str) -> int | None:
    if not _INT.fullmatch(text):
        return None
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(text: str) -> Plain:
    return float(text) if _FLOAT.fullmatch(text) else text


_CONVERT: Final[dict[str, Callable[[str], Plain]]] = {
    "plain": _plain,
    "str": str,
    "null": lambda _text: None,
    "bool": _BOOL.get,
    "int": _int,
    "float": lambda text: float(text) if _FLOAT.fullmatch(text) else None,
}
