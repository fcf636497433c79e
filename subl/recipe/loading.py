"""From a recipe's name or file to the experiment that it describes: every arm at every sweep point, validated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from subl.artifacts import Json
from subl.errors import PluginError, closest, suggest
from subl.recipe import expand
from subl.recipe.accelerate import follow_accelerate
from subl.recipe.chain import Chain, display, load_plugins, locate_recipe, stack
from subl.recipe.checks import used
from subl.recipe.keys import FILE_KEYS
from subl.recipe.layers import DEFAULT, FLAG_RANK, Node, Origin, Override, assign, find, grow, origins, parse_override
from subl.recipe.model import DEFAULTS, Recipe, contrast_arms
from subl.recipe.report import Problems
from subl.recipe.toml import dotted
from subl.recipe.validation import place, validate
from subl.registry.local import load_local
from subl.registry.registry import registry


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm at one sweep point.

    Args:
        arm: Name of the arm; `main` is the recipe itself.
        point: Swept path → value.
        recipe: What is run.
        origins: Path of every value that a layer set → "file:line" or "--set …"; others are defaults.
    """

    arm: str
    point: Mapping[str, Json]
    recipe: Recipe
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A recipe with all its variants.

    Args:
        name: The file's name without its ending.
        path: The file.
        title: The question in one line.
        sources: Every TOML file that the recipe consists of, its own first.
        plugin_files: Local plugin files that are loaded.
        variants: Arms times sweep points, `main` first.
        warnings: What a careful reader would object to.
    """

    name: str
    path: Path
    title: str
    sources: tuple[Path, ...]
    plugin_files: tuple[Path, ...]
    variants: tuple[Variant, ...]
    warnings: tuple[str, ...]


def load_experiment(
    source: str | Path,
    *,
    overrides: Sequence[str] = (),
    plugin_files: Sequence[Path] = (),
    arms: Sequence[str] = (),
) -> Experiment:
    """Read a recipe and validate all its variants.

    The process-wide registry then knows the local plugins of this recipe, and no longer those of one read before.

    Args:
        source: A path that ends in .toml, or the name of a shipped recipe.
        overrides: `KEY=VALUE` texts, the highest layer.
        plugin_files: Local plugin files besides those that the recipe lists.
        arms: Arms to keep; all of them if empty.

    Raises:
        RecipeError: Every problem of the recipe, with its place.
    """
    path = locate_recipe(source)
    problems = Problems(display(path))
    chain = Chain(problems)
    chain.follow(path)
    problems.stop()
    registry.forget_local()
    files = dict.fromkeys([*load_plugins(chain.layers, problems), *_flagged_plugins(plugin_files, problems)])
    flags, tree = _overrides(overrides, stack(chain.layers, grow(DEFAULTS, lambda _: DEFAULT), problems), problems)
    overlays = expand.arms(tree, problems)
    chosen = _choose(arms, overlays, problems)
    points = expand.points(tree, problems)
    drafts = expand.drafts(tree, overlays, chosen, points, flags, problems)
    _check_control_name(drafts, overlays, problems)
    _check_contrasts(drafts, overlays, problems)
    variants = []
    for draft, label in zip(drafts, expand.labels(drafts), strict=True):
        tree = follow_accelerate(draft.tree, problems)
        recipe = validate(tree, problems, label)
        if recipe is not None:
            _check_control_readers(draft, recipe, overlays, chosen, problems)
            variants.append(Variant(draft.arm, draft.point, recipe, _origins(tree)))
    if not arms and len(variants) == len(drafts):
        _check_teacher_readers(drafts, [variant.recipe for variant in variants], problems)
    problems.stop()
    return Experiment(
        name=path.stem,
        path=path,
        title=variants[0].recipe.title,
        sources=tuple(layer.path for layer in reversed(chain.layers)),
        plugin_files=tuple(files),
        variants=tuple(variants),
        warnings=_warnings(variants, list(overlays)),
    )


def _flagged_plugins(files: Sequence[Path], problems: Problems) -> list[Path]:
    loaded = []
    for number, file in enumerate(files):
        try:
            load_local(file)
            loaded.append(file.resolve())
        except PluginError as error:
            problems.add(Origin(f"--plugin {file}", rank=FLAG_RANK + number), "", str(error))
    return loaded


def _overrides(texts: Sequence[str], tree: Node, problems: Problems) -> tuple[list[Override], Node]:
    """Read the flags; those about arms and the sweep are applied at once, because they decide which variants exist."""
    later: list[Override] = []
    for number, text in enumerate(texts):
        try:
            override = parse_override(text, number)
        except ValueError as error:
            problems.add(Origin(f"--set {text}", rank=FLAG_RANK + number), "", str(error))
            continue
        section = override.path[0]
        if section in ("arms", "sweep"):
            try:
                tree = Node(assign(tree, override.path, override.node).value, tree.origin)
            except KeyError as error:
                problems.add(override.node.origin, dotted(override.path), f"no such item; {error.args[0]}")
        elif section in FILE_KEYS:
            hint = "use --plugin FILE" if section == "plugins" else "write it in a recipe's file"
            problems.add(override.node.origin, str(section), f"cannot be set by a flag; {hint}")
        else:
            later.append(override)
    return later, tree


def _choose(names: Sequence[str], overlays: Mapping[str, Node], problems: Problems) -> dict[str, Node]:
    for number, name in enumerate(names):
        if name not in overlays:
            origin = Origin(f"--arm {name}", rank=FLAG_RANK + number)
            problems.add(origin, "", f"unknown arm {name!r}{suggest(name, overlays)}")
    return {name: overlay for name, overlay in overlays.items() if not names or name in names}


def _check_control_name(drafts: Sequence[expand.Draft], arms: Mapping[str, Node], problems: Problems) -> None:
    """Refuse a control that is no arm; in a recipe without any arms, which compares nothing yet, it only warns."""
    for draft in drafts if len(arms) > 1 else ():
        node = find(draft.tree, ("report", "control"))
        if node is not None and isinstance(node.value, str) and node.value not in arms:
            problems.add(node.origin, "report.control", f"unknown arm {node.value!r}{suggest(node.value, arms)}")


def _check_contrasts(drafts: Sequence[expand.Draft], arms: Mapping[str, Node], problems: Problems) -> None:
    """Refuse contrasts between arms that do not exist."""
    for draft in drafts:
        listed = find(draft.tree, ("report", "contrasts"))
        items = listed.value if listed is not None and isinstance(listed.value, tuple) else ()
        named = [(dotted(("report", "contrasts", number)), item) for number, item in enumerate(items)]
        expected = find(draft.tree, ("report", "expectation", "contrast"))
        named += [("report.expectation.contrast", expected)] if expected is not None else []
        for key, node in named:
            for arm in contrast_arms(" ".join(node.value.split())) if isinstance(node.value, str) else ():
                if arm not in arms:
                    problems.add(node.origin, key, f"unknown arm {arm!r}{suggest(arm, arms)}")


def _check_control_readers(
    draft: expand.Draft, recipe: Recipe, arms: Mapping[str, Node], chosen: Mapping[str, Node], problems: Problems
) -> None:
    """Refuse plugins that read the control's results where the control is not run, unless they do without."""
    control = recipe.report.control
    if control in chosen:
        return
    add = f"add [arms.{control}.inducer] or name another in [report] control"
    remedy = f"add --arm {control}" if control in arms else add
    for path, plugin in used({name: getattr(recipe, name) for name in Recipe.model_fields}):
        if "control" in plugin.needs and not plugin.declares("control_optional"):
            message = f"{plugin.kind} {plugin.name!r} reads the results of arm {control!r}, which is missing; {remedy}"
            problems.add(place(draft.tree, (*path, "plugin")), dotted(path), message)


def _check_teacher_readers(drafts: Sequence[expand.Draft], recipes: Sequence[Recipe], problems: Problems) -> None:
    """Refuse probes that compare with a teacher's trait where no arm's teacher has one."""
    if any(not recipe.inducer.declares("trait_free") for recipe in recipes):
        return
    for draft, recipe in zip(drafts, recipes, strict=True):
        for path, plugin in used({name: getattr(recipe, name) for name in Recipe.model_fields}):
            if plugin.declares("biased_teacher"):
                message = (
                    f"{plugin.kind} {plugin.name!r} compares with a teacher that has the trait, and inducer "
                    f'{recipe.inducer.name!r} gives it none; choose another inducer ("lora"), or a probe that looks at '
                    "one model by itself, such as 'vocabulary_shift' or 'lens'"
                )
                problems.add(place(draft.tree, (*path, "plugin")), dotted(path), message)


def _origins(tree: Node) -> dict[str, str]:
    return {dotted(path): str(origin) for path, origin in origins(tree) if path[0] not in FILE_KEYS}


def _warnings(variants: Sequence[Variant], arms: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    control = variants[0].recipe.report.control
    if control not in arms:
        near = closest(control, arms)
        found[
            f"no arm {control!r}: a lift cannot be told from what any teacher's rows do; add\n"
            f'  [arms.{control}.inducer]\n  plugin = "none"'
            + (f"\nor name the arm that is the control: [report] control = {near!r}" if near else "")
        ] = None
    for variant in variants:
        probe = variant.recipe.report.metric.partition(".")[0]
        names = [use.name for use in variant.recipe.probes]
        if probe not in names:
            found[
                f"no probe gives {variant.recipe.report.metric!r}, by which arms are compared{suggest(probe, names)}; "
                "add the probe, or name another measure: [report] metric"
            ] = None
    found |= dict.fromkeys(_unpaired(variants))
    seen: dict[tuple[str, str], str] = {}
    for variant in variants:
        first = seen.setdefault((repr(sorted(variant.point.items())), variant.recipe.to_json()), variant.arm)
        if first != variant.arm:
            found[f"arm {variant.arm!r} is the same experiment as arm {first!r}"] = None
    return tuple(found)


def _unpaired(variants: Sequence[Variant]) -> Iterator[str]:
    """Name contrasts of arms with other targets: what they measure is not the same, so their students make no pairs."""
    at = {(variant.arm, repr(sorted(variant.point.items()))): variant for variant in variants}
    for variant in variants:
        report = variant.recipe.report
        for contrast in report.contrasts:
            arm, *others = contrast_arms(contrast)
            second = others[0] if others else report.control
            partner = at.get((second, repr(sorted(variant.point.items()))))
            if variant.arm != arm or partner is None or _target(variant) == _target(partner):
                continue
            yield (
                f"contrast {contrast!r} has no pairs: the trait of {arm!r} is {_target(variant)!r}, that of {second!r} "
                f"{_target(partner)!r}; give {arm!r} a control of its own, an arm with its [trait] and an unbiased "
                f'teacher, and write "{arm} vs {arm}_control"'
            )


def _target(variant: Variant) -> object:
    trait = variant.recipe.trait
    return None if trait is None else getattr(trait.config, "target", None)
