"""Whether trained students can be compared: they were asked the same, in the same rendering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from subl.errors import StoreError
from subl.recipe.differences import differences
from subl.report.formatting import names, number
from subl.report.recorded import Recorded
from subl.report.runs import Run

Key: TypeAlias = Mapping[str, Any]
Pair: TypeAlias = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """One trained student of one of the runs, with its lift over the control of the same run."""

    recorded: Recorded
    run: Run
    before: float
    after: float
    valid: float
    lift: float


def refuse_other_questions(measured: Sequence[Trained], probe: str) -> list[str]:
    """Compare what every student was asked, and how, with the first; return what could not be checked.

    Raises:
        StoreError: Two students were asked other questions, or in another rendering.
    """
    keys = [(trained, _probe_key(trained, probe)) for trained in measured]
    known = [(trained, key) for trained, key in keys if key is not None]
    lost = list(dict.fromkeys(trained.recorded.name for trained, key in keys if key is None))
    warnings = []
    if lost:
        warnings.append(f"plan.json of {names(lost)} lacks its probes: whether the same was asked cannot be told")
    same_model: dict[str, Trained] = {}
    for trained, key in known:
        first, first_key = known[0]
        warnings += _refuse_pair(first, trained, (first_key, key), probe)
        _refuse_rendering(same_model.setdefault(trained.run.stage("student model") or "", trained), trained)
    return list(dict.fromkeys(warnings))


def named(trained: Trained) -> str:
    """Return a student's variant and run."""
    return f"{trained.run.label} of {trained.recorded.name}"


def _refuse_pair(first: Trained, second: Trained, keys: tuple[Key, Key], probe: str) -> Iterator[str]:
    asked = _asked_differently(*keys)
    unknown = [path for path, values in asked.items() if ".config." in path and None in values]
    prompts = _prompts(first, probe), _prompts(second, probe)
    # What else belongs to a trait, such as its training answers, is no part of what was asked.
    shown_equal = prompts[0] is not None and prompts[0] == prompts[1]
    beside = [path for path in asked if shown_equal and path.startswith("trait.config.") and path not in unknown]
    refused = {path: values for path, values in asked.items() if path not in (*unknown, *beside)}
    if refused:
        raise StoreError(
            f"{named(first)} and {named(second)} cannot be compared: their students were not asked the same "
            f"({_told(refused)}); compare runs of one recipe family, or measure both with the same probe"
        )
    system, dtype = ([key["settings"].get(name) for key in keys] for name in ("system", "dtype"))
    if system[0] != system[1]:
        raise StoreError(
            f"{named(first)} and {named(second)} cannot be compared: the system slot of their students differs "
            f"({_shown(system[0])} and {_shown(system[1])}); run both with the same [chat] system"
        )
    yield from (f"{path} is known of one run only: they come from different versions of subl" for path in unknown)
    yield from (f"{path} differs; the questions are the same" for path in beside)
    if dtype[0] != dtype[1]:
        yield f"{named(first)} was measured in {dtype[0]}, {named(second)} in {dtype[1]}"


def _refuse_rendering(first: Trained, second: Trained) -> None:
    """Refuse the same model in another rendering; other models have other templates by nature."""
    there, here = (trained.run.record.get("rendering") for trained in (first, second))
    if there is not None and here is not None and there != here:
        raise StoreError(
            f"{named(first)} and {named(second)} cannot be compared: the same model was trained with another chat "
            f"rendering ({there} and {here}); run both with one chat template"
        )


def _probe_key(trained: Trained, probe: str) -> Key | None:
    """Return the hashed key of the stage that measured a student; None where the run folder lost it."""
    stage = trained.recorded.stages.get(trained.run.stage(f"student.{probe}") or "")
    return None if stage is None else stage.get("key")


def _asked_differently(first: Key, second: Key) -> dict[str, Pair]:
    """Return what decides the questions and differs: the probe with its settings, and the trait but for its target."""
    traits = [dict(key.get("extras", {}).get("trait") or {}) for key in (first, second)]
    targets = [(trait.get("config") or {}).get("target") for trait in traits]
    for trait in traits:
        config = {name: _without(value, targets) for name, value in (trait.get("config") or {}).items()}
        config.pop("target", None)
        trait["config"] = config
    return differences(
        {"probe": first["plugins"], "trait": traits[0]},
        {"probe": second["plugins"], "trait": traits[1]},
    )


def _without(value: Any, targets: Sequence[Any]) -> Any:
    """Return a list without the targets: which other words there are must agree, not which of them is the target."""
    return [item for item in value if item not in targets] if isinstance(value, list) else value


def _prompts(trained: Trained, probe: str) -> tuple[list[str], set[str]] | None:
    """Return the questions and the competing answers that a student's tables show; None where they do not."""
    tables = trained.run.record.get("findings", {}).get(f"student.{probe}", {}).get("tables", {})
    found = []
    for column in ("prompt", "candidate"):
        table = next((table for table in tables.values() if column in table["columns"]), None)
        if table is None:
            return None
        found.append([str(row[table["columns"].index(column)]) for row in table["rows"]])
    return found[0], set(found[1])


def _told(found: Mapping[str, Pair]) -> str:
    return names([f"{path}: {_shown(a)} and {_shown(b)}" for path, (a, b) in found.items()], 4)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = number(value) if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
