"""What a plugin may use while it works: seed, folders, inputs it declared, progress, metrics, figures, models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from subl.artifacts import ModelRef, Teacher
from subl.errors import PluginError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from subl.registry.kinds import Generator, Trait

T = TypeVar("T")

FIGURES = "figures"
"""Folder inside a stage's output that holds its figures."""


class Bar(Protocol):
    """A running progress bar."""

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Move on by `steps`; `note` is shown beside the rate."""
        ...


class Sink(Protocol):
    """Where a stage's messages, metrics and progress go; the runner provides it."""

    def log(self, message: str) -> None:
        """Record and show one line."""
        ...

    def metric(self, name: str, value: float, step: int | None) -> None:
        """Record one number."""
        ...

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        """Open a progress bar."""
        ...


class Loader(Protocol):
    """Loads models and keeps recently used ones, so that stages share weights."""

    def __call__(self, ref: ModelRef, *, fresh: bool, weights: bool) -> Any:
        """Return what the model's plugin loads; `fresh` gives an own copy that may be changed."""
        ...


class Sharer(Protocol):
    """Keeps what stages share; the runner provides it."""

    def __call__(self, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return the folder of a key, made by `make` where it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every plugin call.

    Args:
        seed: The stage's seed; the same in every arm, so that arms are paired.
        out: Folder for files that belong to the result. Empty at first, published with the result.
        work: Folder for scratch and checkpoints; survives an interruption, so that a stage can resume inside itself.
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        system: Text in the student's system slot in training and evaluation; None = absent, "" = empty.
        sink: Where messages, metrics and progress go.
        loader: Loads models.
        inputs: What the plugin class declared in `needs`.
        sharer: Keeps what stages share.
    """

    seed: int
    out: Path
    work: Path
    device: str
    dtype: str
    system: str | None
    sink: Sink
    loader: Loader
    inputs: Mapping[str, Any] = field(default_factory=dict)
    sharer: Sharer | None = None

    @property
    def trait(self) -> Trait:
        """The recipe's trait; only for plugins with "trait" in `needs`."""
        return self._input("trait")  # type: ignore[no-any-return]

    @property
    def generator(self) -> Generator:
        """The recipe's generator; only for probes and checks with "generator" in `needs`."""
        return self._input("generator")  # type: ignore[no-any-return]

    @property
    def teacher(self) -> Teacher:
        """The teacher as it writes rows; only for filters and probes with "teacher" in `needs`."""
        return self._input("teacher")  # type: ignore[no-any-return]

    def log(self, message: str) -> None:
        """Record one line in the run's events and show it."""
        self.sink.log(message)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Record a number; it is tracked as `<stage>/<name>`, replayed when the stage is cached."""
        self.sink.metric(name, float(value), step)

    def progress(self, total: int | None, label: str, *, done: int = 0) -> AbstractContextManager[Bar]:
        """Open a progress bar with rate and time left; `done` steps were finished before (resume)."""
        return self.sink.bar(label, total, done)

    def track(self, items: Iterable[T], label: str, *, total: int | None = None) -> Iterator[T]:
        """Yield items while a progress bar follows."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        with self.progress(total, label) as bar:
            for item in items:
                yield item
                bar.advance()

    def figure(self, name: str, figure: Figure) -> Path:
        """Save a matplotlib figure as PNG into the result; return its path."""
        folder = self.out / FIGURES
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        # Matplotlib writes its version into the file otherwise, and equal runs should give equal bytes.
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Software": None})
        return path

    def load(self, ref: ModelRef, *, fresh: bool = False, weights: bool = True) -> Any:
        """Load a model through its plugin. Shared and read-only unless `fresh`.

        Args:
            ref: Which model.
            fresh: Give an own copy that may be changed.
            weights: Without them, tokenizer, layers and dtype are there, and the network's tensors are on torch's
                device "meta", which holds no numbers; a plugin without an `outline` loads them all the same.
        """
        return self.loader(ref, fresh=fresh, weights=weights)

    def shared(self, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return a read-only folder that all stages with an equal `key` share, and that the first of them makes.

        For what is costly and the same for many stages, such as what a teacher makes of the rows. It is no part of any
        result: a result must be the same without it. `subl cache prune` removes it. Where several processes work on a
        stage, all of them ask, and the first one makes it.

        Args:
            key: JSON values that decide the folder's content: identities, settings, a version.
            make: Writes the content into an empty folder. Interrupted, it is called again, with an empty folder.

        Raises:
            PluginError: This context has no store.
        """
        if self.sharer is None:
            raise PluginError("this context shares no folders; give it a `sharer`")
        return self.sharer(key, make)

    def _input(self, name: str) -> Any:
        if name not in self.inputs:
            raise PluginError(
                f"the plugin uses {name!r} but does not declare it; add it to `needs` of the plugin's class"
            )
        return self.inputs[name]
