"""Filters at work: reasons counted, examples kept, and a forecast that stops a hopeless generation early."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from subl.artifacts import Row
from subl.context import Context
from subl.errors import PluginError
from subl.registry.kinds import Filter

_EXAMPLES = 3
_SHOWN = 120
_Z99 = 2.3263478740408408
"""The 99 % quantile of the normal distribution (one-sided)."""


@dataclass(slots=True)
class Counts:
    """Running totals of a filter pass: rows per reason, and the first few examples of each."""

    seen: int = 0
    kept: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, row: Row, reason: str | None) -> None:
        """Count one row."""
        self.seen += 1
        if reason is None:
            self.kept += 1
            return
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(row)

    def describe(self) -> str:
        """Say which filter rejects what share, with example completions."""
        lines = []
        for reason, count in sorted(self.rejected.items(), key=lambda item: -item[1]):
            lines.append(f"  {count / self.seen:4.0%}  {reason}")
            lines.extend(f"        e.g. {_shown(row.completion)}" for row in self.examples[reason])
        return "\n".join(lines)


def apply_filters(
    filters: Sequence[tuple[str, Filter]], rows: Iterable[Row], ctx: Context, *, batch_size: int
) -> Iterator[tuple[Row, str | None]]:
    """Yield every row with the first "filter: reason" that rejects it, or None. A filter sees what earlier ones kept.

    Raises:
        PluginError: A filter gives another number of reasons than it got rows, or something that is no reason.
    """
    source = iter(rows)
    while batch := list(islice(source, batch_size)):
        reasons: dict[int, str] = {}
        standing = list(range(len(batch)))
        for name, plugin in filters:
            given = plugin.reject([batch[position] for position in standing], ctx) if standing else []
            if len(given) != len(standing):
                raise PluginError(
                    f"filter {name!r} gave {len(given)} reasons for {len(standing)} rows; one per row, or None"
                )
            for position, reason in zip(standing, given, strict=True):
                if reason is not None and not isinstance(reason, str):
                    raise PluginError(f"filter {name!r} gave {reason!r}; a reason is text, and None keeps the row")
                if reason is not None:
                    reasons[position] = f"{name}: {reason}"
            standing = [position for position in standing if position not in reasons]
        yield from ((row, reasons.get(position)) for position, row in enumerate(batch))


_BARREN = 0.05
"""Without a single row kept, a yield that is surely below this is taken for none."""


class Forecast(NamedTuple):
    """How many rows a generation will leave: expected, and at most (99 % bound)."""

    expected: float
    at_most: float
    hopeless: bool


def forecast(kept: int, seen: int, samples: int, wanted: int) -> Forecast:
    """Forecast from the first `seen` of `samples` rows whether `wanted` rows will be kept.

    The bound is the upper end of the one-sided 99 % Wilson interval of the yield, applied to the rows to come.
    """
    rate = kept / seen
    z2 = _Z99**2
    centre = rate + z2 / (2 * seen)
    spread = _Z99 * (rate * (1 - rate) / seen + z2 / (4 * seen**2)) ** 0.5
    # Where all are kept the interval ends at 1, which rounding could miss by a hair, and so by a row.
    upper = 1.0 if kept == seen else min(1.0, (centre + spread) / (1 + z2 / seen))
    remaining = max(samples - seen, 0)
    at_most = kept + upper * remaining
    return Forecast(kept + rate * remaining, at_most, at_most < wanted or (kept == 0 and upper < _BARREN))


FORECASTS = (256, 1024, 4096)
"""Numbers of generated rows after which the yield is forecast; later ones are not filtered while they come."""


def hopeless(
    filters: Sequence[tuple[str, Filter]], rows: Iterator[Row], ctx: Context, *, samples: int, wanted: int
) -> Iterator[str]:
    """Take the first rows of a generation, and yield a message at each forecast that leaves no hope.

    Args:
        filters: What the rows must pass.
        rows: The rows as they are generated; those after the last forecast are left in it.
        ctx: The filters' context.
        samples: How many rows will be generated.
        wanted: How many must remain.
    """
    counts = Counts()
    for row, reason in apply_filters(filters, islice(rows, FORECASTS[-1]), ctx, batch_size=FORECASTS[0]):
        counts.add(row, reason)
        if counts.seen in FORECASTS and forecast(counts.kept, counts.seen, samples, wanted).hopeless:
            yield (
                f"after {counts.seen} rows the filters kept {counts.kept}; of {samples} samples not even "
                f"{wanted} would remain.\n{counts.describe()}\n"
                "change the filters, let the generator decode under constraints, or ask for fewer rows"
            )


def subset(rows: Sequence[Row], wanted: int | None, seed: int) -> list[Row]:
    """Take `wanted` rows by a seeded rank of their prompts: paired arms keep as many prompts in common as can be."""
    if wanted is None or len(rows) <= wanted:
        return list(rows)
    ranks: Mapping[int, float] = {row.index: random.Random(f"{seed}:{row.index}").random() for row in rows}
    return sorted(islice(sorted(rows, key=lambda row: ranks[row.index]), wanted), key=lambda row: row.index)


def _shown(text: str) -> str:
    flat = repr(text)
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"
