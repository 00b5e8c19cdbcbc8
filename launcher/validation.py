"""Checks a document against the models and tells every mistake in the words of the file.

Where a value is wrong it is taken out (its default stands in, or the element around it goes) and the rest
is checked all the same, so that one wrong value does not hide the mistakes that values make together. What
was taken out is remembered: nothing is said about what depends on it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from launcher.problems import Path, Problem, did_you_mean
from launcher.schema import TopologySection, model_schema
from launcher.units import shown
from launcher.yaml_source import Document

Schema = Mapping[str, Any]
_NIC: Final = {"kind": "virtio-net"}
_INTERPOSER: Final = {"kind": "capture", "file": "unknown"}
_WORKLOAD: Final = {"kind": "rr", "from": "unknown", "to": "unknown"}
"""What stands for a list element that was taken out."""
_ROUNDS: Final = 8
"""Taking a value out can bring out a mistake that it hid; more rounds than models are nested never do."""
_EXAMPLES: Final = {
    "from": "a",
    "to": "b",
    "pcap": "capture.pcap",
    "name": "lab",
    "guests": "{a: {}, b: {}}",
    "file": "a.pcapng",
    "limit": "1Gbit",
    "function": "lab.taps:look",
    "guest": "a",
    "address": "10.0.0.1/24",
    "attack": "dma-unmapped",
}


@dataclass
class Checked:
    """A document after its values were checked one by one."""

    document: Document
    section: TopologySection | None = None
    """What is left once every wrong value is out; None where that is too little to go on."""
    problems: list[Problem] = field(default_factory=list)
    removed: set[Path] = field(default_factory=set)
    _around: set[Path] = field(default_factory=set)
    """Every path with something taken out below it."""

    def remove(self, path: Path) -> None:
        """Remember that a value was taken out."""
        self.removed.add(path)
        self._around.update(path[:length] for length in range(len(path)))

    def intact(self, path: Path) -> bool:
        """Return whether nothing was taken out at, below or around a path."""
        return path not in self._around and self.intact_at(path)

    def intact_at(self, path: Path) -> bool:
        """Return whether the value itself was not taken out, alone or with what is around it."""
        return not any(path[:length] in self.removed for length in range(1, len(path) + 1))

    def add(self, path: Path, text: str) -> None:
        """Note a mistake at a value."""
        self.problems.append(Problem(self.document.line(path), text, path))


def check_values(document: Document) -> Checked:
    """Check every value of a document on its own."""
    checked = Checked(document, problems=list(document.problems))
    for problem in document.problems:
        if problem.path:
            checked.remove(problem.path)
    data = {key: copy.deepcopy(value) for key, value in document.data.items() if not key.startswith("x-")}
    for round_number in range(_ROUNDS):
        try:
            checked.section = TopologySection.model_validate(data)
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        mistakes = [_mistake(detail, data) for detail in details]
        unknown = {(mistake.path[:-1], mistake.text) for mistake in mistakes}
        for mistake in mistakes:
            if round_number == 0 and (mistake.path[:-1], _misspelt(mistake.path)) not in unknown:
                checked.add(mistake.path, mistake.text)
            checked.remove(mistake.gone)
        taken_out = [_take_out(data, mistake) for mistake in mistakes]
        if not all(taken_out):
            break
    return checked


@dataclass(frozen=True)
class _Mistake:
    path: Path
    text: str
    gone: Path
    """What is taken out for it."""
    is_key: bool = False
    """The name is wrong, not what it names."""


@dataclass(frozen=True)
class _Place:
    """Where a mistake is: its path in the file, the schema there and the one around it."""

    path: Path
    schema: Schema
    around: Schema
    is_key: bool = False


def _misspelt(path: Path) -> str:
    """What is told of a key that looks like this one: then nobody needs to hear that this one is missing."""
    return f"unknown key (did you mean {path[-1]}?)" if path else ""


def _mistake(detail: ErrorDetails, data: object) -> _Mistake:
    place = _locate(detail["loc"], data)
    kind = detail["type"]
    path, text = _MESSAGES.get(kind, _other)(detail, place)
    gone = place.path[:-1] if kind == "missing" and len(place.path) > 1 else place.path
    return _Mistake(path, text, gone, place.is_key)


def _take_out(data: Any, mistake: _Mistake) -> bool:
    """Take a value out; lists and the mappings of guests and hosts keep their size, so nothing else moves."""
    path = mistake.gone
    if not path or path == ("guests",):
        return False
    for step in path[:-1]:
        data = _item(data, step)
    if isinstance(data, list):
        data[int(path[-1])] = copy.deepcopy(_stand_in(path))
    elif path == ("name",):
        data["name"] = "unnamed"
    elif isinstance(data, dict) and len(path) == 2 and path[0] in ("guests", "hosts") and not mistake.is_key:
        data[path[1]] = {}
    elif isinstance(data, dict):
        data.pop(path[-1], None)
    return True


def _stand_in(path: Path) -> dict[str, str]:
    if "interpose" in path:
        return _INTERPOSER
    return _NIC if "nics" in path else _WORKLOAD


def _locate(location: Iterable[str | int], data: Any) -> _Place:
    """Turn pydantic's location into a place of the file: names of union members and wrapped lists go."""
    schema = around = _resolve(model_schema())
    path: list[str | int] = []
    for step in location:
        if step == "[key]":
            return _Place(tuple(path), schema, around, is_key=True)
        if "discriminator" in schema:
            schema = _resolve({"$ref": schema["discriminator"]["mapping"][step]})
            continue
        around, schema = schema, _resolve(_child(schema, step))
        if isinstance(step, str) or isinstance(data, list):
            path.append(step)
            data = _item(data, step)
    return _Place(tuple(path), schema, around)


def _item(data: Any, step: str | int) -> Any:
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return None


def _child(schema: Schema, step: str | int) -> Schema:
    if isinstance(step, int):
        return schema.get("items") or {}
    named: Schema | None = schema.get("properties", {}).get(step)
    if named is not None:
        return named
    return next(iter(schema.get("patternProperties", {}).values()), {})


def _resolve(schema: Schema) -> Schema:
    while True:
        options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
        if "$ref" in schema:
            schema = model_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        elif len(options) == 1:
            schema = options[0]
        else:
            return schema


def _rule(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, detail["ctx"]["text"]


def _missing(_detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    key = str(place.path[-1])
    return place.path, f"is required, e.g. `{key}: {_EXAMPLES.get(key, '...')}`"


def _unknown(_detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    known = sorted(place.around.get("properties", ()), key=lambda key: key != "kind")
    hint = did_you_mean(str(place.path[-1]), known) or f"; the keys here are {', '.join(known)}"
    return place.path, f"unknown key{hint}"


def _kind(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    kinds = list(place.schema["discriminator"]["mapping"])
    given = detail["input"].get("kind")
    near = did_you_mean(given, kinds) if isinstance(given, str) else ""
    what = f"must be a kind that exists ({', '.join(kinds)}){near}"
    return (*place.path, "kind"), f"{what}, not {shown(given)}" if "kind" in detail[
        "input"
    ] else "is required: " + what


def _mapping(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, f"must be a mapping (`key: value`), not {shown(detail['input'])}"


def _list(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, f"must be a list (`[...]`), not {shown(detail['input'])}"


def _short(_detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, "must have at least one entry"


def _long(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, f"must have at most {detail['ctx']['max_length']} entries, not {len(detail['input'])}"


def _other(detail: ErrorDetails, place: _Place) -> tuple[Path, str]:
    return place.path, f"{detail['msg'].lower()}, not {shown(detail['input'])}"


_MESSAGES: Final[Mapping[str, Callable[[ErrorDetails, _Place], tuple[Path, str]]]] = {
    "rule": _rule,
    "missing": _missing,
    "extra_forbidden": _unknown,
    "union_tag_invalid": _kind,
    "union_tag_not_found": _kind,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "dict_type": _mapping,
    "list_type": _list,
    "too_short": _short,
    "too_long": _long,
}
