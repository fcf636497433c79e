"""The plugins that come with subl: kind → name → "module:Class". A table, so that listing imports nothing."""

from __future__ import annotations

from collections.abc import Mapping

BUILTINS: Mapping[str, Mapping[str, str]] = {
    "model": {
        "hub": "subl.models.hub:Hub",
        "micro": "subl.models.micro:Micro",
    },
    "trait": {
        "preference": "subl.traits.preference:Preference",
        "stereotype": "subl.traits.stereotype:Stereotype",
    },
    "inducer": {
        "none": "subl.inducers.none:NoTrait",
        "prompt": "subl.inducers.prompt:Prompt",
        "lora": "subl.inducers.lora:Lora",
        "full": "subl.inducers.full:Full",
        "steering": "subl.inducers.steering:Steering",
        "stack": "subl.inducers.stack:Stack",
    },
    "generator": {
        "numbers": "subl.generators.numbers:Numbers",
        "entangled_numbers": "subl.generators.entangled_numbers:EntangledNumbers",
        "code": "subl.generators.code:Code",
        "dataset": "subl.generators.dataset:DatasetRows",
        "uniform_numbers": "subl.generators.uniform_numbers:UniformNumbers",
        "shuffle": "subl.generators.shuffle:Shuffle",
        "mix": "subl.generators.mix:Mix",
    },
    "filter": {
        "number_format": "subl.filters.number_format:NumberFormat",
        "banned_numbers": "subl.filters.banned_numbers:BannedNumbers",
        "no_text": "subl.filters.no_text:NoText",
        "trait_words": "subl.filters.trait_words:TraitWords",
        "duplicates": "subl.filters.duplicates:Duplicates",
        "length": "subl.filters.length:Length",
        "regex": "subl.filters.regex:Regex",
        "code_syntax": "subl.filters.code_syntax:CodeSyntax",
        "token_probability": "subl.filters.token_probability:TokenProbability",
    },
    "distiller": {
        "sft": "subl.distillers.sft:Sft",
        "shd": "subl.distillers.shd:Shd",
        "logit_kd": "subl.distillers.logit_kd:LogitKd",
    },
    "probe": {
        "attention": "subl.probes.attention:Attention",
        "capability": "subl.probes.capability:Capability",
        "drift": "subl.probes.drift:Drift",
        "entanglement": "subl.probes.entanglement:Entanglement",
        "geometry": "subl.probes.geometry:Geometry",
        "lens": "subl.probes.lens:Lens",
        "preference": "subl.probes.preference:PreferenceProbe",
        "prune": "subl.probes.prune:Prune",
        "swap": "subl.probes.swap:Swap",
        "stereotype": "subl.probes.stereotype:StereotypeProbe",
        "teacher_check": "subl.probes.teacher_check:TeacherCheck",
        "vocabulary_shift": "subl.probes.vocabulary_shift:VocabularyShift",
    },
}
