"""Combinations of settings that cannot work, as far as the recipe alone shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.recipe.model import LISTS, SLOTS, ProbeUse
from subl.recipe.toml import KeyPath
from subl.registry.slots import PLUGIN_KEY, Chosen

Fault = tuple[KeyPath, str]


def faults(sections: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the path and message of every impossible combination among the sections that are valid by themselves."""
    yield from _missing_trait(sections)
    yield from _unfit_trait(sections)
    yield from _system_slot(sections)
    yield from _too_few_rows(sections)
    yield from _quantized(sections)
    yield from _misfits(sections)
    yield from _unfamiliar(sections)
    yield from _refused(sections)
    yield from _processes(sections)


def used(sections: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Chosen]]:
    """Yield the path and choice of every plugin that will run."""
    inducer = sections.get("inducer")
    for name in SLOTS:
        # A teacher without a trait is not checked for one.
        idle = name == "check" and inducer is not None and inducer.declares("trait_free")
        if sections.get(name) is not None and not idle:
            yield (name,), sections[name]
    for name in LISTS:
        for index, item in enumerate(sections.get(name, ())):
            yield (name, index), item.chosen if isinstance(item, ProbeUse) else item


def _missing_trait(sections: Mapping[str, Any]) -> Iterator[Fault]:
    if "trait" in sections and sections["trait"] is None:
        needing = [f"{chosen.kind} {chosen.name!r}" for _, chosen in used(sections) if "trait" in chosen.needs]
        if needing:
            yield ("trait",), f"missing; add a [trait] table, needed by {' and '.join(dict.fromkeys(needing))}"


def _unfit_trait(sections: Mapping[str, Any]) -> Iterator[Fault]:
    """Ask every plugin that reads the trait whether it can work with this one."""
    chosen = sections.get("trait")
    if chosen is None:
        return
    trait = chosen.build()
    for path, plugin in used(sections):
        if "trait" in plugin.needs and hasattr(plugin.plugin, "unfit"):
            reason = plugin.build().unfit(trait)
            if reason:
                named = "check" if path == ("check",) else plugin.kind
                yield (*path, PLUGIN_KEY), f"{named} {plugin.name!r} {reason}; choose another {named}, or another trait"


def _system_slot(sections: Mapping[str, Any]) -> Iterator[Fault]:
    inducer, chat = sections.get("inducer"), sections.get("chat")
    if inducer is None or chat is None or chat.generation_system is None or not inducer.declares("sets_system"):
        return
    yield (
        ("chat", "generation_system"),
        f"inducer {inducer.name!r} puts the trait into the system slot, and {_short(chat.generation_system)} would "
        "take its place while rows are written; remove generation_system, or choose another inducer",
    )


def _too_few_rows(sections: Mapping[str, Any]) -> Iterator[Fault]:
    data, generator = sections.get("data"), sections.get("generator")
    samples = getattr(generator.config, "samples", None) if generator is not None else None
    if data is None or data.rows is None or data.allow_fewer or not isinstance(samples, int):
        return
    if data.rows > samples:
        yield (
            ("data", "rows"),
            f"asks for {data.rows} rows, but generator.samples = {samples}; raise samples, lower rows, "
            "or set data.allow_fewer = true",
        )


def _quantized(sections: Mapping[str, Any]) -> Iterator[Fault]:
    quantized = [
        side
        for side in ("teacher", "student")
        if sections.get(side) is not None and getattr(sections[side].config, "quantization", "none") != "none"
    ]
    for index, use in enumerate(sections.get("probes", ())):
        if quantized and use.chosen.declares("exchanges_weights"):
            yield (
                ("probes", index),
                f"probe {use.chosen.name!r} exchanges parts of models, which quantized weights do not allow; set "
                f'{quantized[0]}.quantization = "none", or remove the probe',
            )


def _misfits(sections: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what plugins cannot do between the two models, as far as their numbers of layers and heads are known."""
    asking = [(path, chosen) for path, chosen in used(sections) if chosen.declares("misfits")]
    models = [chosen for name in ("teacher", "student") if (chosen := sections.get(name)) and chosen.declares("shape")]
    if not asking or len(models) < 2:
        return
    teacher, student = (model.build().shape() for model in models)
    if teacher is None or student is None:
        return
    for path, chosen in asking:
        for setting, message in chosen.build().misfits(teacher, student).items():
            yield (*path, setting), message


def _unfamiliar(sections: Mapping[str, Any]) -> Iterator[Fault]:
    """Ask models that know only some words whether they know those of the trait, the generator and the probes."""
    models = {
        side: chosen
        for side in ("teacher", "student")
        if (chosen := sections.get(side)) is not None and chosen.declares("unfamiliar")
    }
    speaking: list[tuple[KeyPath, Chosen]] = list(used(sections)) if models else []
    if models and sections.get("trait") is not None:
        speaking.append((("trait",), sections["trait"]))
    for path, chosen in speaking:
        if not chosen.declares("texts"):
            continue
        sides: dict[str, list[str]] = {}
        for side, model in models.items():
            if reason := _never_met(model, chosen):
                sides.setdefault(reason, []).append(side)
        for reason, unable in sides.items():
            yield path, f"{chosen.name!r} asks the {' and the '.join(unable)} for what it never met: {reason}"


_NEVER_MET: dict[tuple[object, ...], str | None] = {}
"""What models do not know of what plugins say, by the settings of both: a recipe's variants ask the same many times."""


def _never_met(model: Chosen, speaker: Chosen) -> str | None:
    # A probe's texts may come from a file, and so may a trait's, which can change.
    if speaker.kind == "probe" or any(isinstance(value, Path) for _, value in speaker.config):
        reason: str | None = model.build().unfamiliar(speaker.build().texts())
        return reason
    key = tuple((one.plugin, one.config.model_dump_json()) for one in (model, speaker))
    if key not in _NEVER_MET:
        _NEVER_MET[key] = model.build().unfamiliar(speaker.build().texts())
    return _NEVER_MET[key]


def _refused(sections: Mapping[str, Any]) -> Iterator[Fault]:
    """Ask every filter whether it can keep any of the generator's rows."""
    generator = sections.get("generator")
    for index, chosen in enumerate(sections.get("filters", ())):
        if generator is not None and chosen.declares("refuses"):
            reason = chosen.build().refuses(generator.build())
            if reason:
                yield ("filters", index, PLUGIN_KEY), f"filter {chosen.name!r} {reason}; or choose another filter"


def _processes(sections: Mapping[str, Any]) -> Iterator[Fault]:
    compute, distiller = sections.get("compute"), sections.get("distiller")
    if compute is None or compute.processes == 1:
        return
    count = compute.processes
    if compute.device not in ("auto", "cpu", "cuda"):
        message = f'{count} processes do not share device = "{compute.device}"; use "auto", "cuda" or "cpu"'
        yield ("compute", "device"), message
    if distiller is not None and not distiller.distributed:
        yield (
            ("compute", "processes"),
            f"distiller {distiller.name!r} trains in one process only; set processes = 1, or use a distiller that "
            "declares `distributed = True`, such as sft",
        )
    for section in ("inducer", "distiller"):
        chosen = sections.get(section)
        size = getattr(chosen.config, "batch_size", None) if chosen is not None and chosen.distributed else None
        part = getattr(chosen.config, "micro_batch_size", None) if chosen is not None else None
        if isinstance(size, int) and size % (count * (part or 1)):
            held = f" that hold {part} rows at once (micro_batch_size)" if part else ""
            yield (section, "batch_size"), f"{size} cannot be shared out evenly among {count} processes{held}"


def _short(text: str) -> str:
    return "an empty one" if not text else repr(text if len(text) <= 40 else text[:39] + "…")
