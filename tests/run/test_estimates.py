"""What a plan is said to cost, before it runs and from what ran before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from subl.artifacts import Dataset, save_artifact
from subl.recipe.loading import load_experiment
from subl.run.agenda import to_compute
from subl.run.estimates import Estimate, work
from subl.run.estimates import estimate as estimate_of
from subl.run.plan import Plan, Stage, StageKind, VariantPlan, build_plan
from subl.run.store import Store

RECIPE = """
extends = "micro_owl"
[sweep]
seed = [0, 1]
"""


def plan(folder: Path, *overrides: str) -> Plan:
    file = folder / "recipe.toml"
    file.write_text(RECIPE)
    return build_plan(load_experiment(str(file), overrides=overrides, plugin_files=(), arms=()), lenient=True)


def estimate(
    planned: Plan, store: Store, *, until: StageKind | None = None, force: tuple[StageKind, ...] = ()
) -> Estimate:
    return estimate_of(planned, store, to_compute(planned, store, until=until, force=force))


def finish(
    store: Store,
    stage: Stage,
    variant: VariantPlan,
    *,
    seconds: float,
    size: int = 1,
    shared: Mapping[str, int] = MappingProxyType({}),
) -> None:
    folder = store.root / stage.fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "fingerprint": stage.fingerprint,
        "key": stage.key,
        "seconds": seconds,
        "stage": stage.kind,
        "units": work(stage, variant.variant.recipe),
        "shared": dict(shared),
        "files": {"x": {"size": size}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, default=str))


def test_updates_and_rows_are_counted_once_per_stage(tmp_path: Path) -> None:
    found = estimate(plan(tmp_path), Store(tmp_path / "store"))
    # Two bases; a teacher, and three students, per seed; rows of both teachers per seed.
    assert found.updates == 2 * 1000 + 2 * 60 + 2 * 3 * 300
    assert found.rows == 2 * 2 * 8_000
    assert found.tokens == 2 * 2 * 8_000 * 24
    assert found.trained == 2 * 3 * 300 * 64 * 24
    assert (found.sides, found.sides_size) == (0, 0)
    assert found.seconds is None
    assert found.weights == {}


def test_time_is_scaled_from_stages_of_the_same_kind_plugin_and_model(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    store = Store(tmp_path / "store")
    # Everything ran once with half the updates: other fingerprints, the same families.
    half = plan(tmp_path, "teacher.training.updates=500")
    for variant in half.variants:
        for stage in variant.stages:
            finish(store, stage, variant, seconds=50.0 if stage.kind == "model" else 0.0)
    found = estimate(planned, store)
    assert found.seconds == pytest.approx(2 * 100.0)
    assert found.unknown == ()
    other = plan(tmp_path, "teacher.hidden_size=128")
    assert estimate(other, store).seconds is None, "a model of another size foretells nothing"


def test_trainings_by_epochs_are_scaled_by_their_updates_too(tmp_path: Path) -> None:
    by_epochs = 'distiller={plugin="logit_kd",epochs=2,batch_size=64}'
    store = Store(tmp_path / "store")
    for variant in plan(tmp_path, by_epochs).variants:
        for stage in variant.stages:
            finish(store, stage, variant, seconds=25.0 if stage.kind == "distill" else 0.0)
    again = plan(tmp_path, by_epochs, "distiller.epochs=4")
    training = again.variants[0].find("distill")
    assert training is not None
    assert work(training, again.variants[0].variant.recipe) == 4 * 8_000 // 64
    assert estimate(again, store).seconds == pytest.approx(2 * 3 * 50.0)


def test_what_is_cached_costs_nothing(tmp_path: Path) -> None:
    planned, store = plan(tmp_path), Store(tmp_path / "store")
    for variant in planned.variants:
        for stage in variant.stages:
            finish(store, stage, variant, seconds=1.0)
    assert estimate(planned, store).stages == 0
    assert estimate(planned, store, force=("distill",)).updates == 2 * 3 * 300


def test_memory_is_read_off_a_model_s_name(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'extends = "mistral_to_gemma_owl"\n'
        f'[teacher]\nid = "{tmp_path}/Mistral-7B-v0.2"\ndtype = "bfloat16"\n'
        f'[student]\nid = "{tmp_path}/gemma-2b-it"\nquantization = "4bit"\n'
    )
    planned = build_plan(load_experiment(str(file), overrides=(), plugin_files=(), arms=()), lenient=True)
    assert len(planned.unresolved) == 2, "the folders are not there, and the plan can be shown nevertheless"
    weights = estimate(planned, Store(tmp_path / "store")).weights
    assert list(weights.values()) == pytest.approx([14e9, 1.1e9])


def test_cached_teacher_sides_are_sized_by_past_trainings_of_such_students(tmp_path: Path) -> None:
    shd = 'distiller={plugin="shd",teacher_cache=true,updates=5}'
    store, planned = Store(tmp_path / "store"), plan(tmp_path, shd)
    # Per seed, main and other_init read one teacher on the same rows, the control another one.
    found = estimate(planned, store)
    assert (found.sides, found.sides_size) == (4, None)

    training, data = planned.variants[0].find("distill"), planned.variants[0].find("filter")
    assert training is not None
    assert data is not None
    (store.root / data.fingerprint).mkdir(parents=True)
    rows = Dataset(store.root / data.fingerprint / "rows.jsonl", rows=1_000, seen=1_000)
    save_artifact(rows, store.root / data.fingerprint, root=store.root)
    for stage in planned.variants[0].stages:
        if stage.kind in ("model", "filter"):
            finish(store, stage, planned.variants[0], seconds=1.0)
    finish(store, training, planned.variants[0], seconds=1.0, shared={"side": 50_000})
    (store.root / "side").mkdir()
    found = estimate(planned, store)
    assert (found.sides, found.sides_size) == (4, 4 * 8_000 * 50)

    (store.root / "side" / "manifest.json").write_text("{}")
    assert estimate(planned, store).sides == 3, "a side that is there is not made again, for another student either"
    longer = plan(tmp_path, shd, "distiller.updates=6")
    assert estimate(longer, store).sides == 3
    assert estimate(plan(tmp_path, shd, "distiller.rows='mean'"), store).sides_size is None, "other maps"
    assert estimate(plan(tmp_path, shd, "distiller.teacher_cache=false"), store).sides == 0
