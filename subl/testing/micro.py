"""One plugin in a real pipeline: plan, store, stages, record and report, with stand-ins for everything else."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from subl.artifacts import Dataset, Findings, Json, Student, Teacher
from subl.context import Bar
from subl.errors import PluginError
from subl.registry.kinds import KindName
from subl.testing.fakes import silent_bar

if TYPE_CHECKING:
    from subl.recipe.model import Compute
    from subl.run.plan import StageKind
    from subl.run.store import Store

NAME = "under_test"
"""What a recipe of `micro_run` calls the plugin, unless told otherwise."""

BASES = ("stand_in", "tiny")
_SLOTS: Mapping[KindName, str] = {
    "model": "teacher",
    "trait": "trait",
    "inducer": "inducer",
    "generator": "generator",
    "filter": "filters",
    "distiller": "distiller",
    "probe": "probes",
}

taken: dict[str, type] = {}
"""Classes on their way into a run; the local file that `micro_run` writes picks its class up here."""


@dataclass(frozen=True, slots=True)
class MicroRun:
    """What a run left.

    Args:
        folder: The run folder, with findings.json and report.md.
        results: Stage → its result: "induce", "generate", "filter", "distill", "student.under_test" …
        computed: The stages that were computed; the others were found in the store.
        metrics: "<stage>/<name>" → values in the order of their steps.
        lines: What was shown.
    """

    folder: Path
    results: Mapping[str, Any]
    computed: tuple[str, ...]
    metrics: Mapping[str, tuple[float, ...]]
    lines: tuple[str, ...]

    @property
    def teacher(self) -> Teacher:
        """What the inducer made."""
        return cast(Teacher, self.results["induce"])

    @property
    def rows(self) -> Dataset:
        """What the generator wrote."""
        return cast(Dataset, self.results["generate"])

    @property
    def dataset(self) -> Dataset:
        """The rows that passed the filters."""
        return cast(Dataset, self.results["filter"])

    @property
    def student(self) -> Student:
        """What the distiller made."""
        return cast(Student, self.results["distill"])

    def findings(self, role: str, probe: str = NAME) -> Findings:
        """Return what a probe found about the base, the teacher or the student."""
        return cast(Findings, self.results[f"{role}.{probe}"])


def micro_run(
    folder: Path,
    kind: KindName,
    plugin: type,
    settings: Mapping[str, Json] | None = None,
    *,
    changes: Mapping[str, Json] | None = None,
    base: str = "stand_in",
    name: str = NAME,
    until: StageKind | None = None,
) -> MicroRun:
    """Run a pipeline with `plugin` in its place; the same folder again finds finished stages in its store.

    Args:
        folder: Where the recipe and the store go.
        kind: The plugin's kind.
        plugin: Its class.
        settings: Its settings, as a recipe would give them.
        changes: Other parts of the recipe, e.g. `{"generator": {"samples": 8}}`.
        base: What the rest of the pipeline is: "stand_in" needs no framework and takes milliseconds, where a model is
            a number; "tiny" trains a tiny language model; or the path of a recipe of your own.
        name: What the recipe calls the plugin; a model's own name, where its references hold it.
        until: Stop after this kind of stage.

    Raises:
        SublError: The recipe is refused, or a stage fails; as `subl run` would print it.
    """
    from subl.recipe.loading import load_experiment
    from subl.recipe.toml import write_toml
    from subl.report.document import write_report
    from subl.run.executors import Sequential
    from subl.run.jobs import torch_loader
    from subl.run.mirror import Mirror
    from subl.run.plan import build_plan
    from subl.run.record import RunRecord
    from subl.run.runner import Options, Runner
    from subl.run.store import Store
    from subl.tracking.tracker import NullTracker

    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "micro_run.toml"
    recipe.write_text(
        write_toml(_recipe(folder, kind, name, plugin, settings or {}, changes or {}, base)), encoding="utf-8"
    )
    plan = build_plan(load_experiment(recipe, arms=("main",)))
    store = Store(folder / ".subl")
    record = RunRecord(store.home, plan, command=["subl.testing.micro_run"])
    display = _Quiet()
    runner = Runner(
        plan=plan,
        store=store,
        record=record,
        mirror=Mirror(NullTracker(), plan, record),
        display=display,
        options=Options(until=until),
        executor=Sequential(store, _plain_loader if base == "stand_in" else torch_loader),
        report=write_report,
    )
    runner.run()
    return _collect(record, store, tuple(display.lines))


def _recipe(
    folder: Path,
    kind: KindName,
    name: str,
    plugin: type,
    settings: Mapping[str, Json],
    changes: Mapping[str, Json],
    base: str,
) -> dict[str, Json]:
    slot = _SLOTS[kind]
    if slot in changes:
        raise PluginError(f"`changes` holds {slot!r}, where the {kind} under test stands; use `settings`")
    table: Json = {"plugin": name, **settings}
    parent = Path(__file__).with_name(f"{base}.toml") if base in BASES else Path(base).absolute()
    recipe: dict[str, Json] = {
        "extends": str(parent),
        "plugins": [_registration(folder, kind, name, plugin).name],
        slot: [table] if slot in ("filters", "probes") else table,
        "tracking": {"enabled": False},
        **changes,
    }
    if kind == "probe":
        recipe.setdefault("report", {"metric": f"{name}.measure"})
    return recipe


def _registration(folder: Path, kind: str, name: str, plugin: type) -> Path:
    """Write a local file that names the class; its source is part of the content, so that edits are seen."""
    try:
        source = inspect.getsource(plugin)
    except (OSError, TypeError):
        source = repr(plugin)
    key = f"{plugin.__module__}.{plugin.__qualname__}"
    taken[key] = plugin
    path = folder / f"{NAME}.py"
    path.write_text(
        f"# {hashlib.sha256(source.encode()).hexdigest()}\n"
        f"import subl\nfrom subl.testing.micro import taken\n\nsubl.{kind}({name!r})(taken[{key!r}])\n",
        encoding="utf-8",
    )
    return path


class _Quiet:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:  # noqa: ARG002
        return silent_bar()


def _plain_loader(compute: Compute) -> tuple[Any, str]:  # noqa: ARG001
    """Return a loader that needs no framework."""
    from subl.artifacts import ModelRef
    from subl.registry.registry import registry

    def load(ref: ModelRef, *, fresh: bool, weights: bool) -> Any:  # noqa: ARG001
        plugin = registry.load("model", ref.plugin)
        return plugin(plugin.Config.model_validate(ref.config)).load(ref, device="cpu", dtype="float32")

    return load, "cpu"


def _collect(record: Any, store: Store, lines: tuple[str, ...]) -> MicroRun:
    results: dict[str, Any] = {}
    metrics: dict[str, list[float]] = {}
    stages = record.variant(0)["stages"]
    for stage in stages:
        entry = store.entry(stage["fingerprint"])
        results[stage["stage"]] = entry.artifact()
        for metric in entry.metrics():
            metrics.setdefault(f"{stage['stage']}/{metric.name}", []).append(metric.value)
    return MicroRun(
        folder=record.folder,
        results=results,
        computed=tuple(stage["stage"] for stage in stages if not stage["cached"]),
        metrics={name: tuple(values) for name, values in metrics.items()},
        lines=lines,
    )
