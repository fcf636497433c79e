"""Settings of attention distillation. Light to import."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from subl.matching.squeezing_plan import Merge
from subl.registry.config import StrictModel


class LayerSettings(StrictModel):
    """Which layers of two models are compared, and how their heads are brought to one number."""

    student_layers: tuple[int, ...] | None = Field(default=None, min_length=1)
    """The student's blocks whose maps are compared, from 0. Unset = all."""
    teacher_layers: tuple[int, ...] | None = Field(default=None, min_length=1)
    """The teacher's block for each of them. Unset: spread evenly, the last on the last."""
    merge: Merge = "progressive"
    """How heads are squeezed: adjacent pairs in rounds with the closed-form coefficient (the paper), the same with a
    coefficient per row, all heads of a group at once (`joint`); or the ablations `mean` (pooling) and `first`."""

    @model_validator(mode="after")
    def _layers_pair_up(self) -> Self:
        if self.teacher_layers is None:
            return self
        if self.student_layers is None:
            raise ValueError("teacher_layers needs student_layers, one for each")
        if len(self.teacher_layers) != len(self.student_layers):
            raise ValueError(
                f"{len(self.student_layers)} student_layers cannot pair with {len(self.teacher_layers)} teacher_layers"
            )
        return self

    @model_validator(mode="after")
    def _layers_exist_once(self) -> Self:
        for name in ("student_layers", "teacher_layers"):
            layers = getattr(self, name) or ()
            if min(layers, default=0) < 0:
                raise ValueError(f"{name} holds {min(layers)}; layers are counted from 0")
        if len(set(self.student_layers or ())) < len(self.student_layers or ()):
            raise ValueError("a layer is listed twice in student_layers")
        return self


class MapSettings(LayerSettings):
    """How the student's attention maps are compared with the teacher's squeezed ones (arXiv 2502.07436).

    The paper leaves much open (which layers, which rows, what temperature); every such choice is a setting here.
    """

    map_divergence: Literal["forward_kl", "reverse_kl", "jsd", "mse"] = "forward_kl"
    """Distance of two map rows; the first argument is the teacher's."""
    map_temperature: float = Field(default=1.0, gt=0)
    """τ: maps are softened with it after squeezing; the loss is multiplied by τ²."""
    reduction: Literal["row", "sample"] = "row"
    """What counts once: every query row of a response, or every response."""
    keys: Literal["auto", "all", "content", "response"] = "auto"
    """What a row may attend to in the comparison: everything before it, only text that both models read, or only the
    response; renormalised. `auto` takes `all`, or `content` where a system prompt is on one side only."""
    rows: Literal["last", "mean"] = "last"
    """Row of a piece of text that is several tokens: that of its last token, or their mean."""
    alignment: Literal["chunks", "direct"] = "chunks"
    """How maps cross tokenizers: both sides summed to the pieces of text on whose ends both agree, or the teacher's
    spread over the student's tokens, at rows where both agree."""
    head_matching: Literal["index", "hungarian"] = "index"
    """Which squeezed head teaches which student head: by position (the paper), or the cheapest one-to-one matching on
    some rows before training, then kept."""
    maps_of: Literal["teacher", "base"] = "teacher"
    """Whose maps are learned. `base` is the decisive control: the teacher's own base model, without the trait."""
    shuffle_heads: bool = False
    """Ablation: give the student's heads each other's targets, in a fixed random order."""
    shuffle_text: bool = False
    """Ablation: targets are the maps of another row of the same shape (or cut to it), so that what is read no longer
    matters; `shuffled_rows` is the share of rows for which there is one."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.shuffle_heads and self.head_matching == "hungarian":
            raise ValueError("shuffle_heads undoes head_matching; remove one of the two")
        if self.alignment == "direct" and self.rows != "last":
            raise ValueError('rows = "mean" averages over pieces of text, which alignment = "direct" does not have')
        if self.alignment == "direct" and self.shuffle_text:
            raise ValueError('shuffle_text pairs rows by their pieces of text; it needs alignment = "chunks"')
        return self
