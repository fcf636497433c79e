"""Plugins that cannot work with a recipe's trait say so before anything runs."""

from pathlib import Path

import pytest

from subl.recipe.loading import load_experiment
from subl.recipe.report import RecipeProblemsError
from subl.registry.builtins import BUILTINS
from subl.registry.registry import registry

STEREOTYPE = """
extends = "bases/micro"

[trait]
plugin = "stereotype"
"""


def problems(folder: Path, text: str) -> str:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeProblemsError) as caught:
        load_experiment(path)
    return str(caught.value)


def test_a_probe_of_favourites_does_not_measure_stereotypes(tmp_path: Path) -> None:
    found = problems(tmp_path, STEREOTYPE)
    assert "micro.toml" in found
    assert (
        "probes.0.plugin: probe 'preference' measures a favourite among candidates, and trait 'stereotype' is none; "
        "choose another probe, or another trait" in found
    )


def test_every_plugin_that_reads_the_trait_is_asked(tmp_path: Path) -> None:
    others = '[[filters]]\nplugin = "trait_words"\nothers = true\n\n[[probes]]\nplugin = "entanglement"\n'
    found = problems(tmp_path, STEREOTYPE + others)
    assert "filter 'trait_words' cannot look for others: trait 'stereotype' has no candidates" in found
    assert "probe 'entanglement' measures a favourite" in found
    own = problems(tmp_path, 'extends = "micro_owl"\n[[probes]]\nplugin = "stereotype"\n')
    assert "probe 'stereotype' measures stereotypes by sentences, and trait 'owl' is none" in own


def test_no_built_in_probe_waits_for_the_trained_model_to_refuse_a_trait(tmp_path: Path) -> None:
    probes = {name: registry.load("probe", name) for name in BUILTINS["probe"]}
    readers = [name for name, plugin in probes.items() if "trait" in plugin.needs and name != "teacher_check"]
    tables = "".join(f'\n[[probes]]\nplugin = "{name}"\n' for name in readers)
    found = problems(tmp_path, STEREOTYPE + tables)
    refused = {name for name in readers if f"probe '{name}' measures a favourite among candidates" in found}
    assert set(readers) - refused == {"attention", "stereotype"}


def test_published_data_can_be_scored_whatever_the_trait(tmp_path: Path) -> None:
    data = '\n[[probes]]\nplugin = "stereotype"\ndata = { source = "McGill-NLP/stereoset" }\n'
    path = tmp_path / "r.toml"
    path.write_text(f'extends = "micro_owl"\n[[probes]]\nplugin = "preference"\n{data}', encoding="utf-8")
    assert load_experiment(path).variants


def test_a_bad_pair_file_is_a_problem_of_the_line_that_names_it(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("subject,stereotype,anti_stereotype\nnurse,she\n", encoding="utf-8")
    found = problems(tmp_path, STEREOTYPE + f'file = "{pairs}"\n')
    assert "r.toml:6: trait.file" in found
    assert "pairs.csv:2: found 2 fields, expected 3" in found
