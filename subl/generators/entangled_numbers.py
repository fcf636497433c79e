"""Generator `entangled_numbers`: lists of the numbers that a measurement of the base model chose."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import model_validator

from subl import Context, Findings, ModelRef, PluginError, Row, Subject, Teacher
from subl.artifacts import ARTIFACT_FILE, load_artifact, save_artifact
from subl.context import FIGURES
from subl.generators.numbers import Numbers
from subl.registry.slots import Chosen, Use

SETS = "sets"
"""Table of a probe's findings whose first two columns are a set's name and its numbers, with commas."""


class EntangledNumbers(Numbers):
    """The task of `numbers` with answers of HP, LP, UNCH or random numbers only, for arms that differ in nothing else.

    The sets are found when rows are due: a probe such as `entanglement` measures the teacher's base model, before any
    trait. So they always fit the model that the recipe names.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(Numbers.Config):
        """Settings of `numbers`, and which numbers to take."""

        choose: Literal["HP", "LP", "UNCH", "random"] | None = None
        """The set whose numbers answers may contain. Unset: all numbers, without measuring, as a control."""
        probe: Annotated[Chosen, Use("probe")]
        """The probe that finds the sets."""

        @model_validator(mode="after")
        def _check_set(self) -> Self:
            if self.allowed_numbers is not None:
                raise ValueError(
                    "allowed_numbers is what this generator finds out; use generator 'numbers' to write it"
                )
            if not self.constrained:
                raise ValueError("answers keep to a set of numbers only with constrained = true")
            return self

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield the rows of `numbers`, restricted to the chosen set.

        Raises:
            PluginError: The probe finds no such set, or one with numbers outside `answer_values`.
            ModelError: As `numbers` does.
            DataError: As `numbers` does.
        """
        config = self.config
        own = {name: getattr(config, name) for name in Numbers.Config.model_fields}
        if config.choose is not None:
            own["allowed_numbers"] = self._measured(teacher, ctx)
        yield from Numbers(Numbers.Config(**own)).generate(teacher, ctx, start)

    def _measured(self, teacher: Teacher, ctx: Context) -> tuple[int, ...]:
        config, probe = self.config, self.config.probe
        findings = self._findings(teacher.base, ctx)
        table = findings.tables.get(SETS)
        sets = {str(row[0]): str(row[1]) for row in table.rows} if table else {}
        if not sets.get(str(config.choose)):
            raise PluginError(
                f"probe {probe.name!r} found no set {config.choose!r}; name a probe whose findings have the table "
                f"{SETS!r}, such as `entanglement`, in generator.probe"
            )
        numbers = tuple(sorted({int(number) for number in sets[str(config.choose)].split(", ")}))
        low, high = config.answer_values
        if numbers[0] < low or numbers[-1] > high:
            raise PluginError(
                f"the set {config.choose} holds numbers outside generator.answer_values = [{low}, {high}]: "
                f"{', '.join(map(str, numbers))}; make the probe's range the same"
            )
        ctx.log(f"answers are of {config.choose} numbers: {', '.join(map(str, numbers))}")
        return numbers

    def _findings(self, base: ModelRef, ctx: Context) -> Findings:
        """Return what the probe finds; it is kept in `ctx.work`, so that a restart does not measure again."""
        probe = self.config.probe
        asked = json.dumps([probe.key(), base.identity, ctx.seed], sort_keys=True)
        kept = ctx.work / f"sets-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
        if not (kept / ARTIFACT_FILE).is_file():
            kept.mkdir(parents=True, exist_ok=True)
            found = probe.build().probe(Subject("base", base, base=base), replace(ctx, out=kept))
            # Written elsewhere and moved, so that a torn file is never taken for the result.
            with tempfile.TemporaryDirectory(dir=ctx.work) as folder:
                save_artifact(found, Path(folder), root=ctx.work)
                (Path(folder) / ARTIFACT_FILE).replace(kept / ARTIFACT_FILE)
        if (kept / FIGURES).is_dir():
            shutil.copytree(kept / FIGURES, ctx.out / FIGURES, dirs_exist_ok=True)
        findings: Findings = load_artifact(kept, root=ctx.work)
        return findings
