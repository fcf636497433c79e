"""What a probe is told about the model that it looks at."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import subl
from subl.testing import micro_run


class Notes:
    """Writes down who is who."""

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("base", "teacher")

    class Config(subl.PluginConfig):
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        """Name every model by its identity."""
        names = {
            "model": subject.model,
            "base": subject.base,
            "teacher": subject.teacher,
            "teacher_base": subject.teacher_base,
        }
        rows = [(name, ref.identity) for name, ref in names.items() if ref is not None]
        rows += [("course", state.model.identity) for state in subject.course]
        return subl.Findings({"measure": subl.Measure(0)}, {"who": subl.Table(("name", "identity"), tuple(rows))})


def test_every_model_comes_with_what_it_was_made_from(tmp_path: Path) -> None:
    run = micro_run(tmp_path, "probe", Notes, changes={"student": {"plugin": "stand_in", "start": 0.25}})
    who = {role: run.findings(role).tables["who"].rows for role in ("base", "teacher", "student")}
    teacher, student = run.teacher, run.student
    assert teacher.base.identity != student.base.identity
    assert dict(who["base"])["base"] == student.base.identity == dict(who["base"])["model"]
    assert dict(who["teacher"])["base"] == teacher.base.identity
    assert dict(who["student"])["base"] == student.base.identity
    for rows in who.values():
        assert dict(rows)["teacher"] == teacher.model.identity
        assert dict(rows)["teacher_base"] == teacher.base.identity
    assert [name for name, _ in who["student"]].count("course") == 1
    assert dict(who["student"])["course"] == student.model.identity
    assert "course" not in dict(who["teacher"])
