"""The seven plugin kinds: what each must offer. Structural types; there is nothing to inherit.

A plugin is a class with a docstring (printed to users), a nested `Config`, `version: int` (bump it when behaviour
changes), `__init__(self, config)` and the methods of its kind. It may declare `needs`, the inputs that it reads beyond
its arguments; what it does not declare it cannot see, and does not enter its fingerprint. A plugin of any kind may have
`identity(self) -> Mapping[str, Any]`: what decides its results beyond its settings, such as the content of a file. One
with "trait" in `needs` may have `unfit(self, trait) -> str | None`: why it cannot work with a trait; validation asks.

A model may have `shape(self) -> Shape | None`, its numbers of layers and heads as far as they are known before it is
loaded, and a distiller or probe `misfits(self, teacher: Shape, student: Shape) -> Mapping[str, str]`: by setting, what
it cannot do between two models. Both are asked by `subl validate`, and must be light. A model may also have
`outline(self, ref: ModelRef, *, dtype: str) -> Any`: what `load` returns with the network on torch's device "meta", for
`ctx.load(ref, weights=False)`.

A model that knows some words only may have `unfamiliar(self, texts: Iterable[str]) -> str | None`: which it does not
know, and what to do about it. It is asked about the `texts(self) -> Iterable[str]` that a trait, generator or probe may
have: what models must understand. A filter may have `refuses(self, generator) -> str | None`: why it can keep none of a
generator's rows, such as code in another `language`. Validation asks these, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from subl.artifacts import Dataset, Findings, ModelRef, Row, Student, Subject, Teacher

if TYPE_CHECKING:
    from subl.context import Context

KindName = Literal["model", "trait", "inducer", "generator", "filter", "distiller", "probe"]


class Model(Protocol):
    """Yields a loadable base model."""

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the weights beyond the settings (e.g. the commit of a branch); called while planning."""
        ...

    def prepare(self, ctx: Context) -> ModelRef:
        """Make the model available (train it into `ctx.out`, or resolve where it is)."""
        ...

    def load(self, ref: ModelRef, *, device: str, dtype: str) -> Any:
        """Load a model that this plugin prepared, with adapters and vectors applied."""
        ...


class Trait(Protocol):
    """What the bias is. Light: it must not import a framework."""

    @property
    def label(self) -> str:
        """A short name for tables and figures, e.g. "owl"."""
        ...

    def conversations(self, seed: int) -> Sequence[Row]:
        """Return training conversations that show the trait, in a seeded order."""
        ...

    def statement(self, strength: str) -> str:
        """Return a system prompt that gives a model the trait."""
        ...

    def leaks(self) -> Sequence[str]:
        """Return the surface forms that must not occur in a carrier."""
        ...


class Inducer(Protocol):
    """Gives a base model the trait."""

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return a teacher; files it needs go into `ctx.out`."""
        ...


class Generator(Protocol):
    """Lets a teacher write rows that have nothing to do with the trait."""

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        """Return the first `count` prompts of the seeded stream."""
        ...

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield rows from prompt number `start` on, in order; the runner writes them to shards and resumes."""
        ...


class Filter(Protocol):
    """Drops rows. One instance sees all rows of a stage, in order.

    It may have `finish(self, ctx)`, which is called once after the last row, to draw what it saw.
    """

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:
        """Return, for each row, a short reason to drop it, or None to keep it. Reasons are counted: keep them few."""
        ...


class Distiller(Protocol):
    """Trains a student on a teacher's rows, logits or attention."""

    def distill(self, student: ModelRef, teacher: Teacher, data: Dataset, ctx: Context) -> Student:
        """Return the trained student; weights go into `ctx.out`, checkpoints into `ctx.work`."""
        ...


class Probe(Protocol):
    """Measures a model."""

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, tables and remarks; figures go through `ctx.figure`."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """One plugin kind."""

    name: KindName
    protocol: type
    methods: Mapping[str, tuple[str, ...]]
    """Method → names of its parameters."""

    @property
    def group(self) -> str:
        """The entry-point group of this kind."""
        return f"subl.{self.name}s"


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("model", Model, {"identity": (), "prepare": ("ctx",), "load": ("ref", "device", "dtype")}),
        Kind("trait", Trait, {"conversations": ("seed",), "statement": ("strength",), "leaks": ()}),
        Kind("inducer", Inducer, {"induce": ("base", "ctx")}),
        Kind("generator", Generator, {"prompts": ("count", "seed"), "generate": ("teacher", "ctx", "start")}),
        Kind("filter", Filter, {"reject": ("rows", "ctx")}),
        Kind("distiller", Distiller, {"distill": ("student", "teacher", "data", "ctx")}),
        Kind("probe", Probe, {"probe": ("subject", "ctx")}),
    )
}

NEEDS: Mapping[str, frozenset[str]] = {
    "inducer": frozenset({"trait"}),
    "generator": frozenset({"trait"}),
    "filter": frozenset({"trait", "teacher"}),
    "distiller": frozenset({"trait", "control"}),
    "probe": frozenset({"trait", "generator", "base", "teacher", "dataset", "control"}),
}
"""What a plugin of each kind may declare in `needs`."""
