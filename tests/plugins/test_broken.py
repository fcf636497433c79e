"""Broken packages: each ends in an error that names plugin, origin, place and next step, and harms nothing else."""

from __future__ import annotations

import _thread
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from subl.cli import main
from subl.registry.registry import registry
from subl.testing import stand_ins
from tests.plugins.kit import describe, installed

HEAD = """
import subl
from subl.testing.stand_ins import StandInDistiller, StandInFilter, StandInGenerator

MARK = {mark!r}
"""

PACKAGES = {
    "lab-good": ("[subl.filters]\ngood = lab_good:Good\n", "class Good(StandInFilter):\n    'Keeps numbers.'\n"),
    "lab-import": ("[subl.filters]\nghost = lab_import:Ghost\n", "import not_installed_anywhere\n"),
    "lab-contract": ("[subl.filters]\nshapeless = lab_contract:Shapeless\n", "class Shapeless:\n    'A filter.'\n"),
    "lab-one": ("[subl.filters]\nclaimed = lab_one:Mine\n", "class Mine(StandInFilter):\n    'One.'\n"),
    "lab-two": ("[subl.filters]\nclaimed = lab_two:Mine\n", "class Mine(StandInFilter):\n    'Two.'\n"),
    "lab-raises": (
        "[subl.distillers]\nraises = lab_raises:Raises\n",
        "class Raises(StandInDistiller):\n    'Fails until it is mended.'\n\n"
        "    def distill(self, student, teacher, data, ctx):\n"
        "        from pathlib import Path\n\n"
        "        if not Path(MARK).exists():\n            return [][1]\n"
        "        return super().distill(student, teacher, data, ctx)\n",
    ),
    "lab-garbage": (
        "[subl.generators]\ngarbage = lab_garbage:Garbage\n",
        "class Garbage(StandInGenerator):\n    'Yields texts.'\n\n"
        "    def generate(self, teacher, ctx, start):\n        yield 'not a row'\n",
    ),
    "lab-endless": (
        "[subl.generators]\nendless = lab_endless:Endless\n",
        "class Endless(StandInGenerator):\n    'Never ends.'\n\n"
        "    def generate(self, teacher, ctx, start):\n"
        "        from pathlib import Path\n\n"
        "        while True:\n            Path(MARK).touch()\n"
        "            yield subl.Row(start, '1?', '1')\n            start += 1\n",
    ),
    "lab-extra": (
        "[subl.filters]\nneedy = lab_extra:Needy\n",
        "raise subl.MissingExtraError('filter needy', 'plotly', 'lab-extra[plots]')\n",
    ),
    "lab-late": (
        "[subl.distillers]\nlate = lab_late:Late\n",
        "class Late(StandInDistiller):\n    'Imports what is not there when it works.'\n\n"
        "    def distill(self, student, teacher, data, ctx):\n        import not_installed_anywhere\n",
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    for package, (points, code) in PACKAGES.items():
        describe(site, package, points)
        text = HEAD.format(mark=str(site / "mark")) + "\n\n" + code
        (site / f"{package.replace('-', '_')}.py").write_text(text, encoding="utf-8")
    return site


class Project:
    """A recipe of stand-ins with one part replaced, and the command line in its folder."""

    def __init__(self, folder: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.mark = mark
        self.capsys = capsys

    def run(self, section: str, plugin: str) -> tuple[int, str]:
        base = Path(stand_ins.__file__).with_name("stand_in.toml")
        head = f'extends = "{base.as_posix()}"\n[tracking]\nenabled = false\n'
        (self.folder / "recipe.toml").write_text(f'{head}{section}\nplugin = "{plugin}"\n', encoding="utf-8")
        code = main(["run", "recipe.toml"])
        captured = self.capsys.readouterr()
        return code, captured.out + captured.err

    def stages(self) -> dict[str, bool]:
        """The newest run's finished stages, and whether each was found in the store."""
        newest = max((self.folder / ".subl/runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        (variant,) = json.loads((newest / "findings.json").read_text())["variants"]
        return {stage["stage"]: stage["cached"] for stage in variant["stages"]}


@pytest.fixture
def project(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    (site / "mark").unlink(missing_ok=True)
    with installed(site):
        yield Project(tmp_path, site / "mark", capsys)


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (
            "ghost",
            "filter 'ghost' from lab-import 1.0 (lab_import:Ghost) failed to import: ModuleNotFoundError: "
            "No module named 'not_installed_anywhere'; mend or uninstall it, or choose another filter",
        ),
        ("shapeless", "filter 'shapeless' from lab-contract 1.0 (lab_contract:Shapeless) does not keep the contract"),
        ("claimed", "two filters are named 'claimed': lab-"),
        (
            "needy",
            "filter 'needy' from lab-extra 1.0 (lab_extra:Needy) cannot be used: filter needy needs plotly, which is "
            "not installed; install it with: pip install 'lab-extra[plots]'",
        ),
    ],
)
def test_what_shows_when_a_plugin_is_named_is_the_recipes_error_before_anything_runs(
    project: Project, plugin: str, expected: str
) -> None:
    code, out = project.run("[[filters]]", plugin)
    assert code == 2
    assert "recipe.toml:5: filters.0.plugin: " in out
    assert expected in out
    if plugin == "claimed":
        assert "lab-one 1.0 (lab_one:Mine)" in out
        assert "lab-two 1.0 (lab_two:Mine)" in out
    assert not (project.folder / ".subl").exists()


@pytest.mark.parametrize(
    ("section", "plugin", "stage", "origin", "reason"),
    [
        (
            "[distiller]",
            "raises",
            "distill",
            "distiller 'raises' from lab-raises 1.0 (lab_raises:Raises)",
            "IndexError: ",
        ),
        (
            "[distiller]",
            "late",
            "distill",
            "distiller 'late' from lab-late 1.0 (lab_late:Late)",
            "ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        (
            "[generator]",
            "garbage",
            "generate",
            "generator 'garbage' from lab-garbage 1.0 (lab_garbage:Garbage)",
            "generator yielded str instead of subl.Row for row 0",
        ),
    ],
)
def test_what_fails_in_a_stage_names_it_and_leaves_the_finished_ones(
    project: Project, section: str, plugin: str, stage: str, origin: str, reason: str
) -> None:
    code, out = project.run(section, plugin)
    assert code == 2
    assert f"stage {stage} of main ({origin}) failed: {reason}" in out
    assert "run the same command again to resume here" in out
    assert stage not in project.stages()
    assert "teacher.stand_in" in project.stages()
    assert project.run(section, "stand_in")[0] == 0
    assert project.stages()["teacher.stand_in"], "finished work stays"


def test_a_mended_plugin_goes_on_where_it_failed(project: Project) -> None:
    assert project.run("[distiller]", "raises")[0] == 2
    project.mark.touch()
    assert project.run("[distiller]", "raises")[0] == 0
    assert project.stages() == {**dict.fromkeys(project.stages(), True), "distill": False, "student.stand_in": False}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt: processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_plugin_that_never_ends_can_be_interrupted_and_is_named(project: Project) -> None:
    def interrupt() -> None:
        while not project.mark.exists():
            threading.Event().wait(0.01)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    code, out = project.run("[generator]", "endless")
    assert code == 130
    assert (
        "interrupted in stage generate of main (generator 'endless' from lab-endless 1.0 (lab_endless:Endless))" in out
    )
    assert "the same command resumes it" in out
    assert "teacher.stand_in" in project.stages()


def test_other_plugins_work_beside_the_broken_ones(project: Project) -> None:
    assert project.run("[[filters]]", "good")[0] == 0
    assert "ghost" in registry.names("filter")
    assert main(["plugins", "check", "filter"]) == 2
    out = project.capsys.readouterr().out
    assert "ok: filter good from lab-good 1.0 (lab_good:Good)" in out
    assert "fault: filter ghost from lab-import 1.0" in out
    assert out.count("claimed") >= 2
    assert main(["plugins", "check", "filter", "good"]) == 0
