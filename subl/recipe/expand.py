"""Arms and sweep points: which variants of a recipe there are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from subl.artifacts import Json
from subl.recipe.chain import overlay
from subl.recipe.keys import FILE_KEYS, plugin_settings
from subl.recipe.layers import Node, Override, assign, find, merge, plain
from subl.recipe.model import LISTS, SLOTS
from subl.recipe.report import Problems
from subl.recipe.toml import KeyPath, dotted, parse_key
from subl.registry.slots import PLUGIN_KEY, wrapping_fields

MAIN = "main"
POINTS = "points"

Point = Mapping[KeyPath, Node]


@dataclass(frozen=True, slots=True)
class Draft:
    """One arm at one sweep point, merged but not validated."""

    arm: str
    point: Mapping[str, Json]
    tree: Node

    @property
    def label(self) -> str:
        """Arm and point for messages."""
        return ", ".join((f"arm {self.arm}", *(f"{path} = {json.dumps(value)}" for path, value in self.point.items())))


def labels(drafts: Sequence[Draft]) -> list[str]:
    """Name each draft as briefly as tells it from those before: the first not at all, the first of an arm by the arm.

    A problem is noted under the first draft that has it, so what all of them share is nobody's in particular.
    """
    seen: set[str] = set()
    found = []
    for draft in drafts:
        whole = draft.label if draft.arm in seen else f"arm {draft.arm}"
        found.append(whole if seen else "")
        seen.add(draft.arm)
    return found


def arms(tree: Node, problems: Problems) -> dict[str, Node]:
    """Return the overlays by name, the recipe itself (`main`) first."""
    found = {MAIN: Node({}, tree.origin)}
    section = tree.table.get("arms")
    if section is not None and not isinstance(section.value, dict):
        problems.add(section.origin, "arms", "should be a table of arms, e.g. [arms.control.inducer]")
    for name, arm in (section.table if section else {}).items():
        key = dotted(("arms", name))
        if not isinstance(arm.value, dict):
            problems.add(arm.origin, key, "should be a table of sections that differ from the recipe")
        elif name == MAIN:
            problems.add(arm.origin, key, "is the recipe itself; give the arm another name")
        elif dotted((name,)) != name:
            problems.add(arm.origin, key, "names of arms hold letters, digits, - and _ only")
        else:
            for misplaced in FILE_KEYS:
                if misplaced in arm.value and misplaced != "unset":
                    origin = arm.value[misplaced].origin
                    problems.add(origin, f"{key}.{misplaced}", "belongs to the whole recipe, not to an arm")
            found[name] = arm
    return found


def points(tree: Node, problems: Problems) -> list[Point]:
    """Return the sweep's points: `points` (paired values) times the product of the lists."""
    section = tree.table.get("sweep")
    if section is None:
        return [{}]
    if not isinstance(section.value, dict):
        problems.add(section.origin, "sweep", 'should be a table, e.g. seed = [0, 1, 2] or "trait.target" = ["owl"]')
        return [{}]
    axes = []
    for text, values in section.value.items():
        path = _path(text, values, problems) if text != POINTS else None
        if path is None:
            continue
        if not isinstance(values.value, tuple) or not values.value:
            hint = "; put a path with dots in quotes" if isinstance(values.value, dict) else ""
            problems.add(values.origin, dotted(("sweep", text)), f"should be a list of values{hint}")
            continue
        axes.append([(path, value) for value in values.value])
    paired = _paired(section.value.get(POINTS), problems)
    for path in {path for point in paired for path in point} & {axis[0][0] for axis in axes}:
        origin = section.value[POINTS].origin
        problems.add(origin, "sweep.points", f"{dotted(path)!r} is swept by a list as well; keep one of them")
    return [{**point, **dict(combination)} for point in paired for combination in itertools.product(*axes)]


def _paired(section: Node | None, problems: Problems) -> list[Point]:
    if section is None:
        return [{}]
    items = section.value if isinstance(section.value, tuple) else ()
    if not items or any(not isinstance(item.value, dict) for item in items):
        problems.add(section.origin, "sweep.points", "should be tables of path = value, each under [[sweep.points]]")
        return [{}]
    found: list[Point] = []
    for item in items:
        pairs = ((_path(text, value, problems), value) for text, value in item.table.items())
        found.append({path: value for path, value in pairs if path is not None})
    return found


def _path(text: str, node: Node, problems: Problems) -> KeyPath | None:
    try:
        path = parse_key(text)
    except ValueError as error:
        problems.add(node.origin, dotted(("sweep", text)), str(error))
        return None
    if path[0] in FILE_KEYS:
        problems.add(node.origin, dotted(("sweep", text)), f"{path[0]!r} cannot be swept")
        return None
    return path


def drafts(
    base: Node,
    overlays: Mapping[str, Node],
    chosen: Container[str],
    sweep: Sequence[Point],
    overrides: Sequence[Override],
    problems: Problems,
) -> list[Draft]:
    """Merge every chosen arm with every sweep point and the flags; without the points that these make equal."""
    elsewhere = Problems("")  # arms that are not chosen still tell which settings are whose
    below = {
        arm: Node(overlay(base, over, problems if arm in chosen else elsewhere).value, base.origin)
        for arm, over in overlays.items()
    }
    found: dict[str, Draft] = {}
    for point in sweep:
        trees = _layered(below, point, overrides, chosen, problems)
        # One arm names the point for all, so that a value that some arm cannot take still pairs it with the others.
        values = {dotted(path): plain(_named(trees, path, value)) for path, value in point.items()}
        for arm, tree in trees.items():
            if arm in chosen:
                key = repr((arm, values, plain(tree)))
                found.setdefault(key, Draft(arm, values, Node(tree.value, base.origin)))
    return sorted(found.values(), key=lambda draft: list(overlays).index(draft.arm))


def _layered(
    below: Mapping[str, Node],
    point: Point,
    overrides: Sequence[Override],
    chosen: Container[str],
    problems: Problems,
) -> dict[str, Node]:
    """Lay a sweep point and then the flags on every arm that has a place for them.

    An arm that picks another plugin (the control's inducer, say) has no place for a setting that only the other arms'
    plugin knows: `--set inducer.updates=30` is about the arms that induce by updates.
    """
    trees = dict(below)
    # Plugins first, because picking one drops the settings of another.
    swept = sorted(point.items(), key=lambda item: item[0][-1] != PLUGIN_KEY)
    flags = sorted(((o.path, o.node) for o in overrides), key=lambda item: item[0][-1] != PLUGIN_KEY)
    for number, (path, node) in enumerate([*swept, *flags]):
        takers = _takers(trees, path)
        for arm in takers:
            try:
                trees[arm] = _set(trees[arm], _place(trees[arm], path) or path, node)
            except KeyError as error:
                if arm in chosen:
                    problems.add(node.origin, dotted(path), f"no such item; {error.args[0]}")
        if number >= len(swept) and not any(arm in chosen for arm in takers):
            problems.add(node.origin, dotted(path), f"concerns none of the chosen arms; add --arm {takers[0]}")
    return {arm: with_student(tree) for arm, tree in trees.items()}


def _set(tree: Node, path: KeyPath, node: Node) -> Node:
    return assign(with_student(tree) if path == ("student", PLUGIN_KEY) else tree, path, node)


def _takers(trees: Mapping[str, Node], path: KeyPath) -> list[str]:
    """Return the arms that have a place for a value; all of them if none has, so that each can say so."""
    return [arm for arm, tree in trees.items() if _place(tree, path) is not None] or list(trees)


def _place(tree: Node, path: KeyPath) -> KeyPath | None:
    """Return where an arm takes a value: at the path, or in a plugin that the arm's own one wraps; None if nowhere."""
    section = str(path[0])
    kind, depth = SLOTS.get(section) or LISTS.get(section), 2 if section in LISTS else 1
    if kind is None or len(path) <= depth or path[depth] == PLUGIN_KEY:
        return path
    return _place_in(with_student(tree), kind, path[:depth], path[depth:])


def _place_in(tree: Node, kind: str, slot: KeyPath, rest: KeyPath) -> KeyPath | None:
    table = find(tree, slot)
    if table is None:
        return (*slot, *rest) if len(slot) == 1 else None
    plugin = table.table.get(PLUGIN_KEY)
    settings = plugin_settings(kind, plugin.value) if plugin is not None else None
    if settings is None or rest[0] in settings.model_fields:
        return (*slot, *rest)
    inner = [field for field in wrapping_fields(settings, kind) if field in table.table]
    found = (_place_in(tree, kind, (*slot, field), rest) for field in inner)
    return next((place for place in found if place is not None), None)


def _named(trees: Mapping[str, Node], path: KeyPath, value: Node) -> Node:
    tree = trees[_takers(trees, path)[0]]
    return find(tree, _place(tree, path) or path) or value


def with_student(tree: Node) -> Node:
    """Lay a student without a plugin of its own over the teacher; without a [student] both are the same model."""
    teacher, student = tree.table.get("teacher"), tree.table.get("student")
    if teacher is None or (
        student is not None and (not isinstance(student.value, dict) or PLUGIN_KEY in student.value)
    ):
        return tree
    whole = merge(teacher, student) if student is not None else teacher
    return Node({**tree.table, "student": whole}, tree.origin)
