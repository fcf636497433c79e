"""From variants (arm × sweep point) to stages with fingerprints. Equal stages of different variants are one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from subl.artifacts import Role
from subl.errors import DataError, ModelError
from subl.models.loader import planned_dtype
from subl.recipe.loading import Experiment, Variant
from subl.recipe.model import Recipe
from subl.registry.slots import Chosen
from subl.run.fingerprint import fingerprint, stage_seed

StageKind = Literal["model", "induce", "check", "generate", "filter", "audit", "distill", "probe"]
STAGE_KINDS: tuple[StageKind, ...] = get_args(StageKind)
AUDIT_VERSION = 1
"""Part of an audit's fingerprint; bump when equal rows would be audited otherwise."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One unit of work with one cached result.

    Args:
        kind: What is done.
        name: How it is shown: the kind, the model's side, or `<role>.<probe>`.
        chosen: The plugins that do it; several for filters, none for an audit, one otherwise.
        seed: Seed of the stage.
        inputs: Name → fingerprint of the stages it reads.
        extras: Recipe parts that its plugins declared in `needs` ("trait", "generator").
        settings: What the runner itself needs: system slots, rows to keep, dtype.
        key: Everything that was hashed.
        fingerprint: Hash of `key`; the name of the store entry.
    """

    kind: StageKind
    name: str
    chosen: tuple[Chosen, ...]
    seed: int
    inputs: Mapping[str, str]
    extras: Mapping[str, Chosen]
    settings: Mapping[str, Any]
    key: Mapping[str, Any]
    fingerprint: str

    @property
    def plugin(self) -> str:
        """The plugins' names, for people."""
        return ", ".join(chosen.name for chosen in self.chosen) or ("keep all" if self.kind == "filter" else "built in")

    @property
    def role(self) -> Role | None:
        """The role of the model that a probe looks at."""
        role = self.name.partition(".")[0]
        return role if self.kind == "probe" else None  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One variant and its stages, in the order in which they run."""

    variant: Variant
    stages: tuple[Stage, ...]

    @property
    def label(self) -> str:
        """Arm and sweep point, for people."""
        point = " ".join(f"{path}={value}" for path, value in self.variant.point.items())
        return f"{self.variant.arm} · {point}" if point else self.variant.arm

    def find(self, kind: StageKind) -> Stage | None:
        """Return the stage of a kind, or None."""
        return next((stage for stage in self.stages if stage.kind == kind), None)

    def until(self, kind: StageKind | None) -> tuple[Stage, ...]:
        """Return the stages up to the last of a kind, or of those before it where this variant has none; None: all."""
        if kind is None:
            return self.stages
        # Where only the base is probed, the last probe comes before the student.
        kinds = {kind} if self.find(kind) else set(STAGE_KINDS[: STAGE_KINDS.index(kind)])
        last = max((i for i, stage in enumerate(self.stages) if stage.kind in kinds), default=-1)
        return self.stages[: last + 1]


@dataclass(frozen=True, slots=True)
class Plan:
    """All variants of an experiment."""

    experiment: Experiment
    variants: tuple[VariantPlan, ...]
    unresolved: tuple[str, ...] = ()
    """Why some models could not be identified; only a plan that is made to be looked at has any."""

    def order(self) -> list[int]:
        """Return the variants' positions in running order: as they stand, but controls first if others read them."""
        positions = range(len(self.variants))
        # Audits need only its rows, which are made for them before its turn: main's teacher is checked before.
        if not any("control" in s.inputs and s.kind != "audit" for plan in self.variants for s in plan.stages):
            return list(positions)
        return sorted(positions, key=lambda position: not _is_control(self.variants[position].variant))

    def unique(self) -> list[Stage]:
        """Return every stage once, in running order."""
        return list({stage.fingerprint: stage for plan in self.variants for stage in plan.stages}.values())


@dataclass(slots=True)
class _Identities:
    """Identities of base models and of what plugins point to; a hub's answer can cost a request."""

    lenient: bool
    known: dict[tuple[type[Any], str], Mapping[str, Any]] = field(default_factory=dict)
    missing: dict[tuple[type[Any], str], Mapping[str, Any]] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)

    def identity(self, chosen: Chosen) -> Mapping[str, Any]:
        asked = (chosen.plugin, chosen.config.model_dump_json())
        if asked not in self.known:
            try:
                self.known[asked] = chosen.build().identity()
            except ModelError as error:
                if not self.lenient:
                    raise
                self.unresolved.append(str(error))
                self.known[asked] = {"unresolved": True}
        return self.known[asked]

    def key(self, chosen: Chosen) -> Mapping[str, Any]:
        """Return what identifies a plugin; where it cannot be had and the plan is lenient, its settings alone."""
        asked = (chosen.plugin, chosen.config.model_dump_json())
        if asked in self.missing:
            return self.missing[asked]
        try:
            return chosen.key()
        except DataError as error:
            if not self.lenient:
                raise
            self.unresolved.append(str(error))
            self.missing[asked] = {"kind": chosen.kind, **chosen.table(), "unresolved": True}
            return self.missing[asked]


@dataclass(slots=True)
class _Builder:
    recipe: Recipe
    is_control: bool
    control: VariantPlan | None
    models: _Identities
    stages: list[Stage] = field(default_factory=list)

    def add(
        self,
        kind: StageKind,
        chosen: Chosen | tuple[Chosen, ...],
        *,
        inputs: Mapping[str, str],
        name: str = "",
        settings: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        extras: Mapping[str, Chosen] | None = None,
    ) -> Stage:
        chosen = chosen if isinstance(chosen, tuple) else (chosen,)
        if extras is None:
            needs = _needs(*chosen)
            if "generator" in needs:  # whoever lets it write also brings what it reads
                needs |= set(self.recipe.generator.needs)
            extras = {need: getattr(self.recipe, need) for need in ("trait", "generator") if need in needs}
        # A base model must not change with the recipe's seed: its plugin has an init seed of its own.
        seed = 0 if kind == "model" else stage_seed(self.recipe.seed, kind)
        compute = self.recipe.compute
        shared = {"dtype": planned_dtype(compute.dtype, compute.device), "system": self.recipe.chat.system}
        loads = kind not in ("model", "filter", "audit") or "teacher" in _needs(*chosen)
        settings = {**(shared if loads else {}), **(settings or {})}
        key = {
            "stage": kind,
            "plugins": [self.models.key(item) for item in chosen],
            "extras": {need: self.models.key(item) for need, item in extras.items()},
            "seed": seed,
            "settings": settings,
            "inputs": dict(inputs),
            **({"identity": dict(identity)} if identity else {}),
        }
        stage = Stage(kind, name or kind, chosen, seed, dict(inputs), dict(extras), settings, key, fingerprint(key))
        self.stages.append(stage)
        return stage

    def model(self, side: str, chosen: Chosen) -> Stage:
        return self.add("model", chosen, name=f"{side} model", inputs={}, identity=self.models.identity(chosen))

    def audit(self, data: Stage) -> Stage:
        """Add the audit of the rows, against the control's; the control's own are counted and not judged."""
        control = self.control.find("filter") if self.control else None
        limits = {**self.recipe.audit.model_dump(), **({"max_overt": None} if self.is_control else {})}
        return self.add(
            "audit",
            (),
            inputs={"rows": data.fingerprint, **({"control": control.fingerprint} if control else {})},
            settings={"version": AUDIT_VERSION, **limits},
            extras={"trait": self.recipe.trait} if self.recipe.trait else {},
        )

    def probes(self, roles: Mapping[Role, Stage], known: Mapping[str, Stage]) -> None:
        for role, stage in roles.items():
            for use in self.recipe.probes:
                if role not in use.on:
                    continue
                needed = {need: known[need].fingerprint for need in _needs(use.chosen) if need in known}
                if role == "student" and "control" in _needs(use.chosen) and self.control is not None:
                    distill = self.control.find("distill")
                    needed |= {"control": distill.fingerprint} if distill else {}
                inputs = {"model": stage.fingerprint, **needed}
                system = self.recipe.chat.generation_system
                writes = system is not None and {"teacher", "generator"} <= _needs(use.chosen)
                settings = {"generation_system": system} if writes else {}
                self.add("probe", use.chosen, name=f"{role}.{use.name}", inputs=inputs, settings=settings)


def build_plan(experiment: Experiment, *, lenient: bool = False) -> Plan:
    """Return the plan of an experiment; resolves model revisions, computes nothing.

    Args:
        experiment: What to plan.
        lenient: Plan on where a model or data set cannot be identified (no network); such a plan can be shown, not run.

    Raises:
        ModelError: A model cannot be identified, unless `lenient`.
        DataError: A data set or file cannot be identified, unless `lenient`.
    """
    plans: dict[int, VariantPlan] = {}
    models = _Identities(lenient)
    # Control arms first, because other arms may read the control's results; the running order is restored below.
    order = sorted(range(len(experiment.variants)), key=lambda i: not _is_control(experiment.variants[i]))
    for position in order:
        variant = experiment.variants[position]
        builder = _Builder(variant.recipe, _is_control(variant), _control_of(variant, plans.values()), models)
        plans[position] = VariantPlan(variant, tuple(_stages(builder)))
    variants = tuple(plans[position] for position in range(len(experiment.variants)))
    return Plan(experiment, variants, tuple(models.unresolved))


def base_stages(recipe: Recipe, side: Literal["teacher", "student"]) -> list[Stage]:
    """Return the stages that measure one side's base model with the recipe's probes: as in a plan, but alone.

    Raises:
        ModelError: The model cannot be identified.
    """
    build = _Builder(recipe, is_control=False, control=None, models=_Identities(lenient=False))
    model = build.model(side, getattr(recipe, side))
    build.probes({"base": model}, {"base": model})
    return build.stages


def _stages(build: _Builder) -> list[Stage]:
    recipe, control = build.recipe, build.control
    teacher_model = build.model("teacher", recipe.teacher)
    student_model = build.model("student", recipe.student)
    induce = build.add("induce", recipe.inducer, inputs={"base": teacher_model.fingerprint})
    known = {"base": student_model, "teacher": induce}
    if not recipe.inducer.declares("trait_free"):
        inputs = {"model": induce.fingerprint, "base": teacher_model.fingerprint}
        build.add("check", recipe.check, inputs=inputs)
    build.probes({"base": student_model, "teacher": induce}, known)
    generate = build.add(
        "generate",
        recipe.generator,
        inputs={"teacher": induce.fingerprint},
        settings={"generation_system": recipe.chat.generation_system},
    )
    needs_teacher = {"teacher": induce.fingerprint} if "teacher" in _needs(*recipe.filters) else {}
    data = build.add(
        "filter",
        recipe.filters,
        inputs={"rows": generate.fingerprint, **needs_teacher},
        settings={
            "rows": recipe.data.rows,
            "allow_fewer": recipe.data.allow_fewer,
            **({"generation_system": recipe.chat.generation_system} if needs_teacher else {}),
        },
    )
    build.audit(data)
    inputs = {"student": student_model.fingerprint, "teacher": induce.fingerprint, "data": data.fingerprint}
    if "control" in _needs(recipe.distiller) and control is not None and (unbiased := control.find("induce")):
        inputs["control"] = unbiased.fingerprint
    distill = build.add("distill", recipe.distiller, inputs=inputs)
    build.probes({"student": distill}, {**known, "dataset": data})
    return build.stages


def _is_control(variant: Variant) -> bool:
    return variant.arm == variant.recipe.report.control


def _control_of(variant: Variant, planned: Any) -> VariantPlan | None:
    if _is_control(variant):
        return None
    return next((p for p in planned if _is_control(p.variant) and p.variant.point == variant.point), None)


def _needs(*chosen: Chosen) -> set[str]:
    return {need for item in chosen for need in item.needs}
