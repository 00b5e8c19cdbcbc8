"""The report: every number is one of the comparison's, nothing is loaded, and it is the same each time."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from launcher.compare_result import Comparison
from launcher.compare_ways import FRAMES, PLACES
from launcher.report_charts import Bar, Stack, bars, lines, stacks
from launcher.report_html import render
from launcher.spread import Spread
from tests.launcher.comparisons import comparison

VOID = ("meta", "br", "rect", "line", "circle")


class Page(HTMLParser):
    """Reads a page: the values it states, what it refers to, and text that is in no value."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[float] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.open: list[tuple[str, bool]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        stated = named.get("value") or named.get("data-value")
        self.values += [float(stated)] if stated is not None else []
        self.links += [value for name in ("src", "href") if (value := named.get(name))]
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append((tag, stated is not None))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not any(stated or tag in ("style", "title") for tag, stated in self.open):
            self.text.append(data)


def numbers(value: Any) -> Iterator[float]:
    """Every number of a comparison's JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def strings(value: Any) -> Iterator[str]:
    """Every string of a comparison's JSON, names included."""
    if isinstance(value, dict):
        yield from (str(name) for name in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


@pytest.fixture(scope="module")
def made() -> Comparison:
    return comparison()


def test_every_number_on_the_page_is_in_the_comparison(made: Comparison) -> None:
    data = msgspec.json.decode(msgspec.json.encode(made))
    stated = Page(render(msgspec.convert(data, Comparison))).values
    assert set(stated) <= set(numbers(data))
    assert len(stated) > 300


def test_every_median_of_the_comparison_is_on_the_page(made: Comparison) -> None:
    stated = set(Page(render(made)).values)
    costs = ("exits", "doorbells", "messages", "interrupts", "copies", "translations")
    for way in made.ways.values():
        for measured in way.measured:
            shown = (
                ["p50_us", "p99_us"] if measured.kind == "rr" else ["frames_per_second", "bits_per_second"]
            )
            shown += costs if measured.frame_bytes == 60 else ()
            assert {measured.figures[name].median for name in shown} <= stated
    for one in made.order:
        assert {one.frames_per_second, one.cpu_ns} <= stated


def test_text_outside_of_values_has_no_figures_but_those_of_words(made: Comparison) -> None:
    page = Page(render(made))
    known = [*strings(msgspec.json.decode(msgspec.json.encode(made))), *PLACES.values()]
    text = " ".join(page.text)
    for each in sorted(known, key=len, reverse=True):
        text = text.replace(each, " ")
    allowed = {*(str(frame) for frame in FRAMES), "99", "100", "8254", "1", "2", "3", "1000"}
    axis = {"1", "10", "100"}
    assert set(re.findall(r"\d+", text)) <= allowed | axis


def test_nothing_is_loaded_and_nothing_runs(made: Comparison) -> None:
    text = render(made)
    page = Page(text)
    assert page.links == []
    assert not {"script", "link", "iframe", "img"} & page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text


def test_it_follows_the_readers_choice_of_light_or_dark_and_fits_a_phone(made: Comparison) -> None:
    text = render(made)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text
    assert page_is_whole(text)


def page_is_whole(text: str) -> bool:
    return Page(text).open == []


def test_the_page_depends_on_the_comparison_alone(made: Comparison) -> None:
    assert render(made) == render(made)


def test_text_of_the_comparison_is_escaped(made: Comparison) -> None:
    text = render(made)
    assert "7 of 7 &lt;frames&gt;" in text
    assert "--html &lt;report&gt;" in text


def test_what_does_not_hold_is_said_first() -> None:
    text = render(comparison(factor=0.1))
    assert text.index("Does not hold: passthrough") < text.index("<h2>")


def test_bars_are_to_one_scale_and_a_whisker_is_drawn_where_values_differ() -> None:
    text = bars([Bar("a", "x", 50.0, "50", 40.0, 100.0), Bar("b", "y", 25.0, "25", 25.0, 25.0)], "t")
    assert 'width="50.00%"' in text
    assert 'width="25.00%"' in text
    assert text.count("whisker") == 1


def test_parts_of_a_stack_fill_it() -> None:
    text = stacks([Stack("a", [("x", 1.0), ("y", 3.0)], 4.0, "4")], "t")
    assert 'x="0.00%"' in text
    assert 'x="25.00%"' in text
    assert 'width="75.00%"' in text


def test_a_line_has_a_dot_for_each_repetition() -> None:
    text = lines({"a": ("x", Spread.of([1.0, 10.0, 100.0]))}, "t", "")
    assert text.count("<circle") == 3
    assert text.count('class="series x"') == 2
    assert lines({}, "t", "") == ""
