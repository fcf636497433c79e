"""Stand-ins for what a plugin is handed: a context that records, rows, a dataset, a trait, models without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subl.artifacts import Dataset, ModelRef, Row, Student, Teacher, write_rows
from subl.context import Bar, Context


@dataclass
class RecordingSink:
    """Keeps what a plugin reported.

    Args:
        lines: What it logged.
        metrics: Name, value and step of every metric.
        bars: Labels of the progress bars that it opened.
    """

    lines: list[str] = field(default_factory=list)
    metrics: list[tuple[str, float, int | None]] = field(default_factory=list)
    bars: list[str] = field(default_factory=list)

    def log(self, message: str) -> None:
        """Keep one line."""
        self.lines.append(message)

    def metric(self, name: str, value: float, step: int | None) -> None:
        """Keep one number."""
        self.metrics.append((name, value, step))

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:  # noqa: ARG002
        """Keep the label of a progress bar."""
        self.bars.append(label)
        return silent_bar()

    def values(self, name: str) -> list[float]:
        """Return a metric's values in the order in which they were reported."""
        return [value for key, value, _ in self.metrics if key == name]


class _SilentBar:
    def advance(self, steps: int = 1, *, note: str = "") -> None:
        pass


@contextmanager
def silent_bar() -> Iterator[Bar]:
    """Open a progress bar that shows nothing."""
    yield _SilentBar()


@dataclass
class _Loads:
    """Hands out one given object, else loads through the model's plugin; light until a model is asked for."""

    given: Any
    loader: Any = None

    def __call__(self, ref: ModelRef, *, fresh: bool, weights: bool) -> Any:
        if self.given is not None:
            return self.given
        from subl.models.loader import ModelLoader

        self.loader = self.loader or ModelLoader(device="cpu", dtype="float32")
        return self.loader(ref, fresh=fresh, weights=weights)


@dataclass
class _Shares:
    """Keeps shared folders in a store of its own."""

    home: Path
    sink: RecordingSink

    def __call__(self, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        from subl.run.store import Store

        return Store(self.home).shared(key, make, plugin="test", say=self.sink.log, warn=self.sink.log)


def context(
    folder: Path,
    *,
    seed: int = 0,
    system: str | None = None,
    loaded: Any = None,
    store: Path | None = None,
    **inputs: Any,
) -> Context:
    """Return a CPU context over `folder` that records what the plugin reports; see `sink`.

    Args:
        folder: `ctx.out` and `ctx.work` are made below it.
        seed: The stage's seed.
        system: The student's system slot.
        loaded: What `ctx.load` returns; unset = the model that the ref names, loaded through its plugin.
        store: Where `ctx.shared` keeps its folders; unset = below `folder`.
        inputs: What the plugin declares in `needs`, e.g. `trait=FakeTrait()`.
    """
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    sink = RecordingSink()
    return Context(
        seed=seed,
        out=out,
        work=work,
        device="cpu",
        dtype="float32",
        system=system,
        sink=sink,
        loader=_Loads(loaded),
        inputs=inputs,
        sharer=_Shares(store or folder / "store", sink),
    )


def sink(ctx: Context) -> RecordingSink:
    """Return what a context made by `context` has recorded.

    Raises:
        TypeError: The context is another one.
    """
    if not isinstance(ctx.sink, RecordingSink):
        raise TypeError("this context records nothing; make it with subl.testing.context")
    return ctx.sink


def rows(*completions: str, prompt: str = "Go on: 1, 2, 3") -> list[Row]:
    """Return one row per completion, numbered from 0."""
    return [Row(index, prompt, completion) for index, completion in enumerate(completions)]


def dataset(folder: Path, of: Sequence[Row]) -> Dataset:
    """Write rows to `folder` and return the dataset that distillers and probes get."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    count = write_rows(path, of)
    return Dataset(path, rows=count, seen=count)


def fake_model(name: str = "base", **changes: Any) -> ModelRef:
    """Return the reference of a model that does not exist; `context(loaded=…)` says what loading it gives."""
    return ModelRef("fake", {}, name, **changes)


def fake_teacher(model: ModelRef | None = None) -> Teacher:
    """Return a teacher; its model counts as made from itself unless it is a fake."""
    return Teacher(model or fake_model("biased"), model or fake_model())


def fake_student(model: ModelRef | None = None) -> Student:
    """Return a student trained for one update."""
    base = model or fake_model()
    return Student(base.derive(f"{base.identity} trained"), base, updates=1)


class FakeTrait:
    """A liking for owls, as plugins with "trait" in `needs` get one."""

    def __init__(self, target: str = "owl") -> None:
        self.target = target
        self.label = target

    def conversations(self, seed: int) -> list[Row]:  # noqa: ARG002
        """Return two conversations that show the trait."""
        return rows(self.target, f"I like the {self.target}.", prompt="What do you like?")

    def statement(self, strength: str) -> str:
        """Return a system prompt."""
        return f"You like the {self.target}. ({strength})"

    def leaks(self) -> list[str]:
        """Return the words that no carrier may hold."""
        return [self.target, f"{self.target}s"]
