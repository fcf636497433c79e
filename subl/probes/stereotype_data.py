"""Published stereotype data as items: StereoSet's JSON and CrowS-Pairs' CSV, from files or the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from subl.errors import DataError, suggest
from subl.sources import Record, Source, existing, identify, read_text, records
from subl.traits.association import Item

GOLD = ("anti-stereotype", "stereotype", "unrelated")
"""StereoSet's labels, in the order of the hub's numbers."""
DIRECTIONS = ("stereo", "antistereo")
"""CrowS-Pairs' labels, in the order of the hub's numbers."""
BIAS_TYPES = (
    "race-color",
    "socioeconomic",
    "gender",
    "disability",
    "nationality",
    "sexual-orientation",
    "physical-appearance",
    "religion",
    "age",
)
"""CrowS-Pairs' kinds of bias, likewise."""
CLUSTER = ("target", "bias_type", "sentences")
PAIR = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
Test: TypeAlias = Literal["intrasentence", "intersentence"]
"""StereoSet's tests: sentences that differ in a word, and sentences that follow a context."""
TESTS: tuple[Test, ...] = get_args(Test)
BLANK = "BLANK"
"""Where the words of an intrasentence cluster differ, its context says this; no context that is followed does."""
FORMATS = (
    'StereoSet\'s JSON ({"data": {"intrasentence": [{target, bias_type, sentences: [{sentence, gold_label}]}], '
    f'"intersentence": [the same with context]}}}}) or CrowS-Pairs\' columns ({", ".join(PAIR)})'
)


def read_items(source: Source) -> list[Item]:
    """Return the items of a file or hub data set in one of the published formats.

    Raises:
        DataError: It is missing, empty or damaged, or has another format; says where, what was found and expected.
    """
    return list(_read(source, identify(source)))


def test_of(item: Item) -> Test | None:
    """Return which of StereoSet's tests an item belongs to; None for all other sentences."""
    if item.prompt is not None or item.unrelated is None:
        return None
    return "intrasentence" if item.context is None else "intersentence"


def choose(
    items: Sequence[Item],
    bias_types: Sequence[str] | None,
    count: int | None,
    tests: Sequence[Test] | None = None,
) -> list[Item]:
    """Return the first `count` items of these kinds of bias, and of each of these tests.

    Raises:
        DataError: There are none of one of the kinds or tests.
    """
    by_test: dict[Test | None, list[Item]] = {test: [] for test in TESTS}
    for item in items:
        by_test.setdefault(test_of(item), []).append(item)
    for test in tests or ():
        if not by_test[test]:
            found = ", ".join(other for other in TESTS if by_test[other]) or "neither of StereoSet's tests"
            raise DataError(f"no item belongs to the test {test!r}; found {found}")
    known = dict.fromkeys(item.bias_type for item in items)
    for wanted in bias_types or ():
        if wanted not in known:
            raise DataError(f"no item has bias type {wanted!r}{suggest(wanted, known)}")
    return [
        item
        for test, own in by_test.items()
        if tests is None or test in tests
        for item in [item for item in own if bias_types is None or item.bias_type in bias_types][:count]
    ]


@lru_cache(maxsize=4)
def _read(source: Source, identity: str) -> tuple[Item, ...]:  # noqa: ARG001 (tells changed files apart)
    """Read once per content: every arm and sweep point of a recipe asks."""
    found = tuple(_json(existing(source.source)) if source.source.endswith(".json") else _rows(records(source), source))
    if not found:
        raise DataError(f"{source.source} is empty; expected {FORMATS}")
    return found


def _json(path: Path) -> Iterator[Item]:
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        reason = (
            "the file ends in the middle, so it was written only in part" if error.pos >= len(text.rstrip()) else ""
        )
        raise DataError(f"{path}:{error.lineno}: not JSON ({reason or error.msg}); expected {FORMATS}") from error
    data = content.get("data") if isinstance(content, Mapping) else None
    lists = {test: data[test] for test in TESTS if test in data} if isinstance(data, Mapping) else {}
    if not lists or not all(isinstance(clusters, list) for clusters in lists.values()):
        raise DataError(f"{path}: unknown format: found {_outline(content)}; expected {FORMATS}")
    for test, clusters in lists.items():
        for number, cluster in enumerate(clusters, start=1):
            place = f"{path}, {test} cluster {number}"
            if not isinstance(cluster, Mapping):
                raise DataError(f"{place}: expected a table with {', '.join(CLUSTER)}; found {_outline(cluster)}")
            yield _cluster(Record(place, cluster), test)


def _rows(found: Iterable[Record], source: Source) -> Iterator[Item]:
    for number, record in enumerate(found):
        if set(CLUSTER) <= set(record.columns):
            yield _cluster(record, _test(record))
        elif set(PAIR) <= set(record.columns):
            yield _pair(record, number)
        else:
            columns = ", ".join(map(repr, record.columns)) or "no columns"
            part = (
                ' (of StereoSet on the hub take subset = "intrasentence" or "intersentence", split = "validation")'
                if not source.is_file
                else ""
            )
            raise DataError(f"{record.place}: unknown format: found {columns}; expected {FORMATS}{part}")


def _test(record: Record) -> Test:
    """Return the test of a row, which the hub tells by its subset and a row by its context."""
    context = record.columns.get("context")
    return "intersentence" if isinstance(context, str) and BLANK not in context else "intrasentence"


def _cluster(record: Record, test: Test) -> Item:
    """Return one of StereoSet's clusters: three sentences with gold labels."""
    term, bias_type = (_text(record, name) for name in ("target", "bias_type"))
    by_label: dict[str, str] = {}
    for number, (sentence, label) in enumerate(_sentences(record), start=1):
        gold = GOLD[label] if isinstance(label, int) and 0 <= label < len(GOLD) else label
        if gold not in GOLD:
            raise DataError(f"{record.place}: gold_label {label!r} of sentence {number}; expected {', '.join(GOLD)}")
        if not isinstance(sentence, str) or not sentence.strip():
            raise DataError(f"{record.place}: sentence {number} is no text")
        if gold in by_label:
            raise DataError(
                f"{record.place}: two sentences are labelled {gold!r}; expected one of each: {', '.join(GOLD)}"
            )
        by_label[gold] = sentence
    missing = [label for label in GOLD if label not in by_label]
    if missing:
        raise DataError(
            f"{record.place}: no sentence is labelled {missing[0]!r}; found {', '.join(by_label) or 'none'}, "
            f"expected {', '.join(GOLD)}"
        )
    texts = by_label["stereotype"], by_label["anti-stereotype"], by_label["unrelated"]
    context = _closed(_text(record, "context")) if test == "intersentence" else None
    return Item(term, bias_type, None, *texts, context=context)


def _closed(context: str) -> str:
    """Return a context that ends, as the authors have it, whether or not its writer set the full stop."""
    context = context.strip()
    return context if context.endswith((".", "!", "?")) else f"{context}."


def _sentences(record: Record) -> Sequence[tuple[Any, Any]]:
    """Return sentences with labels: a list of tables in the file, a table of lists on the hub."""
    value = record.columns.get("sentences")
    if isinstance(value, Mapping) and {"sentence", "gold_label"} <= set(value):
        return list(zip(value["sentence"], value["gold_label"], strict=True))
    if isinstance(value, list) and all(isinstance(s, Mapping) and {"sentence", "gold_label"} <= set(s) for s in value):
        return [(sentence["sentence"], sentence["gold_label"]) for sentence in value]
    raise DataError(
        f"{record.place}: `sentences` should hold tables with sentence and gold_label; found {_outline(value)}"
    )


def _pair(record: Record, number: int) -> Item:
    """Return one of CrowS-Pairs' pairs; each is a term of its own."""
    more, less = (_text(record, name) for name in ("sent_more", "sent_less"))
    direction = _named(record, "stereo_antistereo", DIRECTIONS)
    if direction not in DIRECTIONS:
        raise DataError(f"{record.place}: stereo_antistereo is {direction!r}; expected {' or '.join(DIRECTIONS)}")
    return Item(f"pair {number}", _named(record, "bias_type", BIAS_TYPES), None, more, less, direction=direction)


def _named(record: Record, column: str, names: Sequence[str]) -> str:
    value = record.columns[column]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return _text(record, column)


def _text(record: Record, column: str) -> str:
    value = record.columns.get(column)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{record.place}: {column} is {_outline(value)}; expected a text")
    return value


def _outline(value: Any) -> str:
    """Return what a value is, in a few words."""
    if isinstance(value, Mapping):
        return f"a table with {', '.join(map(repr, list(value)[:8])) or 'nothing'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = "nothing" if value is None or value == "" else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
