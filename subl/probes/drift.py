"""Probe `drift`: do a student's activations move where the teacher's moved?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from subl import Context, Findings, PluginConfig, Runtime, Shape, Subject
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class Drift:
    """Compares how training moved a student's residual stream with how the trait moved the teacher's, layer by layer.

    Both shifts are differences of activations on the same prompts: student − its base, teacher − its base. A student
    may move towards the teacher long before it answers like it, so this sees transfer that behaviour does not show yet.
    Training on any rows moves activations, so the control arm's student is measured beside, on the same prompts.

    - alignment: cosine of the student's mean shift with the teacher's, mean over the blocks in which both moved.
      projection: the student's shift along the teacher's, as a share of it (1: as far as the teacher), mean over the
      blocks in which the teacher moved. control_alignment, control_projection: of the control's student.
      alignment_minus_control, projection_minus_control: paired by prompt.
      Two models that leave the same base by far are aligned by that alone, which the control shows too.
    - beyond_control: cosine of (student − control student) with the teacher's shift.
    - …_p: share of random directions that are at least as well aligned, either way. They are drawn with the covariance
      of the base's activations, because directions drawn without it are too easy to beat (p 1.3 to 7 times too small).
    - peak_after_layer: where the student is aligned most beyond the control. relative_shift: the student's mean shift
      as a multiple of the teacher's, whatever its direction.
    - share, base_share, control_share: the target's share among the candidates, which is the behaviour to compare with.
    - of the teacher: reliability, the cosine between its shifts on two halves of the prompts, which bounds what a
      student can reach; relative_size, its shift as a multiple of the base's activations.

    Layers are the transformer's blocks, from 0 as everywhere; places in the stream are named "embeddings", "after layer
    0" and so on, as by `lens`. Intervals are over prompts to these models. With `kept_checkpoints` of the distiller the
    same is measured along the training, of the student and of the control. A control student of another base is no
    control. Student and teacher must have layers and width in common. Two initialisations have no coordinates in
    common, and the alignment is that of chance.
    """

    version = 2
    needs: ClassVar[tuple[str, ...]] = ("trait", "generator", "base", "teacher", "control")
    biased_teacher: ClassVar[bool] = True

    class Config(PluginConfig):
        """Settings of `drift`."""

        prompts: Literal["questions", "carrier"] = "questions"
        """Where activations are read: on the trait's questions, or on the prompts that the generator gives."""
        count: int = Field(default=32, ge=4)
        """Prompts: the generator's first, or at most so many of the trait's questions."""
        tokens: Literal["last", "mean"] = "last"
        """Read the last token of a prompt, where the answer begins, or the mean over all its tokens."""
        draws: int = Field(default=2_000, ge=100)
        """Random directions."""
        sample: int = Field(default=512, ge=16)
        """Tokens of the prompts whose activations give the covariance."""
        resamples: int = Field(default=1_000, ge=100)
        """Bootstrap samples of the prompts behind intervals of cosines."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def misfits(self, teacher: Shape, student: Shape) -> dict[str, str]:
        """Return why shifts of models of these shapes cannot be compared."""
        if teacher.layers == student.layers:
            return {}
        return {
            "plugin": f"probe 'drift' compares activations layer by layer, and the teacher has {teacher.layers} layers "
            f"and the student {student.layers}; use probe 'attention', or a teacher of the student's architecture"
        }

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `layers` and `checkpoints`, one sentence, and figures.

        Of a base there is nothing to say, and of the teacher only what bounds its students.

        Raises:
            PluginError: The trait is no preference, or the generator gives too few prompts.
            ModelError: Student and teacher differ in layers or width.
        """
        trait = preference_of(ctx.trait, "probe 'drift'", "name a probe in [[probes]] that fits it")
        from subl.probes.drift_measuring import measure

        return measure(subject, trait, self.config, ctx)
