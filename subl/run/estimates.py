"""What a plan will cost: updates and rows from the recipe, time and disk from past stages of the store."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from subl.distillers.student_settings import SoftSettings
from subl.errors import StoreError
from subl.models.loader import planned_dtype
from subl.recipe.model import Recipe
from subl.registry.slots import Chosen
from subl.run.plan import Plan, Stage, VariantPlan
from subl.run.store import Entry, Store

SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")
"""The number of parameters in a model's name, in billions: "gemma-2b-it"."""
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.55}
"""Bytes per weight; 4-bit blocks carry their scales."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the stages that are to be computed will take.

    Args:
        stages: How many there are.
        updates: Optimizer updates in them.
        rows: Rows to generate.
        tokens: Tokens in these at most, as far as their generators say; prompts are not counted.
        seconds: Expected time, one stage after the other; None where no stage has a predecessor in the store.
        size: Expected bytes in the store, of the same stages.
        trained: Tokens of completions that the students learn from at most, every epoch counted, by the same settings.
        sides: Teacher's sides that are to be cached beside the stages' results (`teacher_cache`).
        sides_size: Expected bytes of these; None where no such training is in the store.
        unknown: Kinds and plugins of stages that the store has never seen, so that they are not counted in either.
        weights: Bytes of each model's weights by name, as far as the name says how many there are.
    """

    stages: int
    updates: int
    rows: int
    tokens: int
    seconds: float | None
    size: int
    unknown: tuple[str, ...]
    weights: dict[str, float]
    trained: int
    sides: int
    sides_size: int | None


def estimate(plan: Plan, store: Store, todo: Collection[str]) -> Estimate:
    """Estimate what computing some of a plan's stages takes; reads manifests only.

    Args:
        plan: The plan.
        store: Its past stages foretell time and disk.
        todo: Fingerprints of the stages to compute, from `to_compute`.
    """
    manifests = {str(manifest["fingerprint"]): manifest for manifest in _manifests(store)}
    past = _past(manifests)
    planned = {stage.fingerprint: dict(stage.key) for variant in plan.variants for stage in variant.stages}
    updates = rows = tokens = trained = stages = size = 0
    seconds: list[float] = []
    unknown: list[str] = []
    seen: set[str] = set()
    for variant in plan.variants:
        for stage in variant.stages:
            if stage.fingerprint in seen or stage.fingerprint not in todo:
                continue
            seen.add(stage.fingerprint)
            stages += 1
            units = work(stage, variant.variant.recipe)
            if stage.kind == "generate":
                rows, tokens = rows + units, tokens + units * _longest(stage)
            else:
                updates += units
                trained += _trained(stage, variant, units)
            known = past.get(_family(dict(stage.key), planned))
            if known is None:
                unknown.append(f"{stage.kind} ({stage.plugin})")
                continue
            seconds.append(median(each for each, _ in known) * max(units, 1))
            size += round(median(each for _, each in known))
    time = sum(seconds) if seconds else None
    sides, sides_size = _sides(plan, store, todo, manifests)
    return Estimate(
        stages=stages,
        updates=updates,
        rows=rows,
        tokens=tokens,
        seconds=time,
        size=size,
        unknown=tuple(dict.fromkeys(unknown)),
        weights=_weights(plan),
        trained=trained,
        sides=sides,
        sides_size=sides_size,
    )


def _trained(stage: Stage, variant: VariantPlan, updates: int) -> int:
    """Return how many tokens of completions a student learns from at most; 0 where its generator does not say."""
    generation = variant.find("generate")
    if stage.kind != "distill" or generation is None:
        return 0
    return updates * int(getattr(stage.chosen[0].config, "batch_size", 0)) * _longest(generation)


def _longest(stage: Stage) -> int:
    """Return how many tokens a row of a generate stage has at most; 0 where its generator does not say."""
    config: Any = stage.chosen[0].config
    while isinstance(wrapped := getattr(config, "generator", None), Chosen):
        config = wrapped.config
    return int(getattr(getattr(config, "sampling", None), "max_new_tokens", 0))


def work(stage: Stage, recipe: Recipe) -> int:
    """Return the optimizer updates of a training stage, the rows of a generation, else 0."""
    if stage.kind == "generate":
        return int(getattr(stage.chosen[0].config, "samples", 0) or 0)
    if stage.kind not in ("model", "induce", "distill"):
        return 0
    config: Any = getattr(stage.chosen[0].config, "training", stage.chosen[0].config)
    times = float(getattr(config, "intensity", None) or 1.0)
    if getattr(config, "updates", None):
        return max(1, round(float(config.updates) * times))
    if stage.kind != "distill" or not getattr(config, "epochs", None):
        return 0
    return math.ceil(float(config.epochs) * math.ceil(_rows(recipe) / int(config.batch_size)))


def _rows(recipe: Recipe) -> int:
    """Return how many rows students are trained on at most; 0 where the generator does not say."""
    return recipe.data.rows or int(getattr(recipe.generator.config, "samples", 0) or 0)


def _sides(
    plan: Plan, store: Store, todo: Collection[str], manifests: Mapping[str, dict[str, Any]]
) -> tuple[int, int | None]:
    """Return how many teacher's sides are to be cached, and their bytes by those of past trainings of such students."""
    past, there = _past_sides(store, manifests)
    planned = {stage.fingerprint: dict(stage.key) for variant in plan.variants for stage in variant.stages}
    needed: dict[tuple[str, ...], float | None] = {}
    for variant in plan.variants:
        stage = variant.find("distill")
        if (
            stage is None
            or stage.fingerprint not in todo
            or not getattr(stage.chosen[0].config, "teacher_cache", False)
        ):
            continue
        side = _side(planned[stage.fingerprint])
        if side in there:
            continue
        known = past.get((*_family(planned[stage.fingerprint], planned), side[1]))
        needed[side] = median(known) * _rows(variant.variant.recipe) if known else None
    sizes = [size for size in needed.values() if size is not None]
    return len(needed), round(sum(sizes)) if len(sizes) == len(needed) else None


def _side(key: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what trainings that read one cached side have in common: distiller, what it reads, teacher and rows."""
    plugin, inputs = key["plugins"][0], key["inputs"]
    reads = {name: value for name, value in plugin["config"].items() if name not in SoftSettings.model_fields}
    return plugin["plugin"], json.dumps(reads, sort_keys=True), inputs["teacher"], inputs["data"]


def _past_sides(
    store: Store, manifests: Mapping[str, dict[str, Any]]
) -> tuple[dict[tuple[str, ...], list[float]], set[tuple[str, ...]]]:
    """Return bytes per row of past trainings' cached sides, per family and what is read, and those still there."""
    keys = {name: manifest.get("key", {}) for name, manifest in manifests.items()}
    found: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    there: set[tuple[str, ...]] = set()
    for name, manifest in manifests.items():
        shared = manifest.get("shared")  # older versions did not record it
        if manifest.get("stage") != "distill" or not shared:
            continue
        side = _side(keys[name])
        if all(store.entry(folder).complete for folder in shared):
            there.add(side)
        try:
            rows = store.entry(side[-1]).artifact().rows
        except StoreError:
            continue
        found[*_family(keys[name], keys), side[1]].append(sum(shared.values()) / max(rows, 1))
    return found, there


def _family(key: dict[str, Any], keys: Mapping[str, dict[str, Any]]) -> tuple[str, ...]:
    """Return what stages must share for one to foretell the other: kind, plugins, and the model at work."""
    names = sorted(str(plugin["plugin"]) for plugin in key.get("plugins", []))
    return (str(key.get("stage")), *names, *_model(key, keys))


def _model(key: dict[str, Any], keys: Mapping[str, dict[str, Any]]) -> tuple[str, ...]:
    """Return the plugin and the size, or the name, of the base model behind a stage."""
    if key.get("stage") == "model":
        plugin = key["plugins"][0]
        config = plugin["config"]
        return (plugin["plugin"], *(str(config[name]) for name in ("id", "hidden_size", "layers") if name in config))
    inputs = key.get("inputs", {})
    known = [inputs[name] for name in _LEADS_TO_MODEL if inputs.get(name) in keys]
    return _model(keys[known[0]], keys) if known else ()


_LEADS_TO_MODEL = ("student", "base", "model", "teacher", "rows", "data")


def _past(manifests: Mapping[str, dict[str, Any]]) -> dict[tuple[str, ...], list[tuple[float, int]]]:
    """Return, per family, the seconds per unit of work and the bytes of every finished stage."""
    found: defaultdict[tuple[str, ...], list[tuple[float, int]]] = defaultdict(list)
    finished = {name: manifest.get("key", {}) for name, manifest in manifests.items()}
    for name, manifest in manifests.items():
        key = finished[name]
        if "units" not in manifest:  # an older version's, which did not say how much work it was
            continue
        size = sum(int(file["size"]) for file in manifest.get("files", {}).values())
        rate = float(manifest.get("seconds", 0)) / max(int(manifest["units"]), 1)
        found[_family(key, finished)].append((rate, size))
    return found


def _manifests(store: Store) -> Iterator[dict[str, Any]]:
    for folder in sorted(store.root.iterdir()) if store.root.is_dir() else ():
        entry = Entry(store.root, folder.name)
        if not entry.complete:
            continue
        try:
            yield entry.manifest()
        except StoreError:
            continue


def _weights(plan: Plan) -> dict[str, float]:
    weights: dict[str, float] = {}
    for variant in plan.variants:
        recipe = variant.variant.recipe
        dtype = planned_dtype(recipe.compute.dtype, recipe.compute.device)
        for chosen in (recipe.teacher, recipe.student):
            name = str(getattr(chosen.config, "id", ""))
            billions = SIZE.findall(name.replace("-", " ").replace("_", " "))
            if not billions:
                continue
            own, packed = getattr(chosen.config, "dtype", "auto"), getattr(chosen.config, "quantization", "none")
            width = BYTES[packed] if packed != "none" else BYTES[dtype if own == "auto" else own]
            weights[name] = float(billions[0]) * 1e9 * width
    return weights
