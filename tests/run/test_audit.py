"""Audits as part of a run, in this process."""

import json
from pathlib import Path

import pytest

from subl.cli import main
from tests.run.conftest import Project


@pytest.fixture
def toy(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TOY_LOG", str(project.folder / "log"))
    return project


def test_rows_that_name_the_trait_are_a_leak_everywhere_but_in_the_control(
    toy: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.recipe.write_text(toy.recipe.read_text().replace('[[filters]]\nplugin = "toy"\n', ""))
    assert main(["run", "toy.toml", "--set", "generator.garbage=10", "--until", "audit"]) == 0
    warning = "warning: main: a leak: 120 of 1,200 training rows name the trait ('owl' in 120)"
    assert " ".join(capsys.readouterr().out.split()).count(warning) == 1
    assert "update1" not in toy.log
    assert main(["run", "toy.toml", "--set", "generator.garbage=10", "--until", "audit"]) == 0
    assert " ".join(capsys.readouterr().out.split()).count(warning) == 1, "from the cache too"
    variants = {variant["arm"]: variant for variant in toy.findings()["variants"]}
    found = {arm: variant["findings"]["audit"] for arm, variant in variants.items()}
    assert {arm: len(one["problems"]) for arm, one in found.items()} == {"main": 1, "control": 0, "other_init": 1}
    assert found["control"]["measures"]["overt"]["value"] == 0.1
    assert found["main"]["tables"]["mentions"] == {
        "columns": ["form", "rows", "mentions", "control rows", "control mentions"],
        "rows": [["owl", 120, 120, 120, 120]],
    }
    assert found["main"]["measures"]["prompt_overlap"]["value"] == 1
    assert variants["main"]["figures"] == {"audit": ["figures/main/audit.rows.png"]}
    stages = {arm: v["stages"][-1]["fingerprint"] for arm, v in variants.items()}
    assert stages["main"] == stages["other_init"] != stages["control"]


def test_an_arm_goes_on_without_its_audit_if_the_control_has_no_rows(
    toy: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.recipe.write_text(toy.recipe.read_text() + "[arms.control.generator]\ngarbage = 1\n")
    assert main(["run", "toy.toml", "--keep-going"]) == 2
    assert "main: no audit, because the control arm has no rows" in " ".join(capsys.readouterr().out.split())
    main_arm, control, _ = toy.findings()["variants"]
    assert (main_arm["status"], control["status"]) == ("finished", "failed")
    assert "0 of 1200 rows passed the filters; training needs at least one" in control["error"]
    assert "student.toy" in main_arm["findings"]
    assert "audit" not in main_arm["findings"]
    # What filters dropped is not lost: with other filters the same rows do.
    toy.recipe.write_text(toy.recipe.read_text().replace('[[filters]]\nplugin = "toy"\n', ""))
    Path("log").unlink()
    assert main(["run", "toy.toml", "--until", "audit"]) == 0
    assert not [line for line in toy.log if line.startswith("row")]
    audit = toy.findings()["variants"][0]["findings"]["audit"]
    assert json.dumps(audit["tables"]["mentions"]["rows"]) == '[["owl", 0, 0, 1200, 1200]]'
