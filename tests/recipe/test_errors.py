"""Every kind of problem, as it is printed: place, key, what was expected, and a suggestion. Full texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from subl.recipe.loading import load_experiment
from subl.recipe.report import RecipeProblemsError
from tests.recipe.kit import BASE, load, problems, write

# Each case of the file: what a recipe adds to kit.BASE, further files (@ name) and flags, and the problems that follow.
# "…" stands for names that grow with the built-in plugins.
GOLDEN = Path(__file__).with_name("problems.txt").read_text(encoding="utf-8")
CASES = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", GOLDEN, re.MULTILINE))


def arguments(text: str) -> dict[str, Any]:
    flags: dict[str, list[str]] = {"--set": [], "--arm": []}
    files = {"": ""}
    name = ""
    for line in text.splitlines(keepends=True):
        first, _, rest = line.partition(" ")
        if first == "@":
            name = rest.strip()
            files[name] = ""
        elif first in flags:
            flags[first].append(rest.rstrip("\n"))
        else:
            files[name] += line
    return {"extra": files.pop(""), "files": files, "overrides": tuple(flags["--set"]), "arms": tuple(flags["--arm"])}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_problem_says_where_what_and_what_to_do(tmp_path: Path, case: str) -> None:
    given, _, expected = case.strip().partition("=>\n")
    found = "\n".join(problems(tmp_path, **arguments(given)))
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    assert found == expected or re.fullmatch(pattern, found), f"expected\n{expected}\nfound\n{found}"


def test_every_case_of_the_file_is_read() -> None:
    assert len(CASES) == GOLDEN.count("\n=>\n") > 50


def test_problems_of_all_layers_come_at_once_in_file_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "low.toml": 'extends = "base.toml"\n\n[distiller]\nepochs = 0\n',
        "recipe.toml": 'extends = "low.toml"\ntitel = "x"\n[arms.x.generator]\nsample = 3\n[sweep]\nseed = [-1, 1]\n',
    }
    with pytest.raises(RecipeProblemsError) as caught:
        load(tmp_path, files=files, overrides=("filters.1.max_length=long",))
    assert str(caught.value) == (
        "recipe.toml has 5 problems\n"
        "  recipe.toml:2: titel: unknown key; did you mean 'title'?\n"
        "  recipe.toml:4: generator.sample: unknown key; did you mean 'samples'? (arm x)\n"
        "  recipe.toml:6: seed: should be greater than or equal to 0, not -1\n"
        "  low.toml:4: distiller.epochs: should be greater than or equal to 1, not 0\n"
        "  --set filters.1.max_length=long: filters.1.max_length: should be a whole number, not 'long'"
    )
    assert caught.value.exit_code == 2


def test_one_problem_is_one_problem_in_every_variant(tmp_path: Path) -> None:
    found = problems(tmp_path, '[sweep]\nseed = [0, 1, 2]\n[distiller]\nepoch = 1\n[arms.x]\ntitle = "x"\n')
    assert found == ["recipe.toml:5: distiller.epoch: unknown key; did you mean 'epochs'?"]


def test_wrong_values_do_not_hide_impossible_combinations(tmp_path: Path) -> None:
    found = problems(tmp_path, "seed = -1\n[data]\nrows = 1000\n")
    assert [line.split(": ")[1] for line in found] == ["seed", "data.rows"]


def test_a_bad_plugin_flag_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"base.toml": BASE})
    with pytest.raises(RecipeProblemsError) as caught:
        load_experiment(tmp_path / "base.toml", plugin_files=[Path("nowhere.py")])
    assert "--plugin nowhere.py: plugin file" in str(caught.value)
