"""Probe `swap`: in which parts of a model does its trait live?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from subl import Context, Findings, PluginConfig, Runtime, Shape, Subject
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait

Part = Literal["embeddings", "lm_head", "attention", "mlp", "norms"]


class Swap:
    """Exchanges parts between a teacher or student and its base, both ways, and measures the trait.

    "with" puts one part of the biased model into the base: does the part suffice? "without" puts the base's part into
    the biased model: is it needed? Parts are embeddings, lm_head, attention, mlp and norms, and then whole blocks.
    Adapters are merged into the weights first; a head that is tied to the embeddings is parted from them, so that each
    can be exchanged alone. Parts with equal weights are named and not measured.

    - share, margin, valid; base_share, base_margin, base_valid: of the two models as they are, as probe `preference`
      measures them, over the trait's questions, both in the biased model's system slot.
    - with_<part>_share, …; without_<part>_share, …: after the exchange; <part> of blocks is layer_<number>, or
      layers_<first>_<last>.

    The table also has, for each exchange, how far the part's weights are apart and which part of the margin between the
    models it carries over. All parts exchanged together give the other model, which is checked every time; so is that
    each exchange changes the outputs.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait", "base")
    exchanges_weights = True

    class Config(PluginConfig):
        """Settings of `swap`."""

        parts: tuple[Part, ...] | None = None
        """Parts to exchange, each alone. Unset: all that the model has."""
        layers: tuple[tuple[int, int], ...] | None = None
        """Runs of blocks to exchange whole, each [first, last], both included and from 0. Unset: every block alone."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

        @field_validator("parts")
        @classmethod
        def _once(cls, value: tuple[Part, ...] | None) -> tuple[Part, ...] | None:
            if value is not None and len(set(value)) < len(value):
                raise ValueError("names a part twice")
            return value

        @field_validator("layers")
        @classmethod
        def _ordered(cls, value: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
            for first, last in value or ():
                if not 0 <= first <= last:
                    raise ValueError(f"should be runs [first, last] with 0 <= first <= last, not {[first, last]}")
            return value

    def __init__(self, config: Config) -> None:
        self.config = config

    def misfits(self, teacher: Shape, student: Shape) -> dict[str, str]:
        """Return which blocks neither of two models of these shapes has."""
        count = max(teacher.layers, student.layers)
        beyond = [run for run in self.config.layers or () if run[1] >= count]
        if not beyond:
            return {}
        return {"layers": f"layers holds {list(beyond[0])}, and the blocks are 0 to {count - 1}; name others"}

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the table `swaps` and the figure `swaps`; only a remark where there is no second model.

        Raises:
            PluginError: The trait is no preference, or the model has no such part or block.
            ModelError: The models' shapes differ, they are quantized, or an exchange changes nothing.
        """
        trait = preference_of(ctx.trait, "probe 'swap'", "name a probe in [[probes]] that fits it")
        if subject.role == "base":
            return Findings(remarks=("parts of teacher and student are exchanged with the base's; see there",))
        from subl.probes.swap_measuring import measure

        return measure(subject, trait, self.config, ctx)
