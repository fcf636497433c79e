"""Probe `stereotype`: how much a model prefers stereotypes to their opposites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from subl import Context, DataError, Findings, PluginConfig, Runtime, Subject
from subl.probes.stereotype_data import Test, choose, read_items
from subl.probes.subject import AssociationTrait, unfit
from subl.registry.kinds import Trait
from subl.sources import SUFFIXES, Source, identify


class StereotypeSource(Source):
    """A file in a published format, a folder laid out like a data set of the hub, or a data set of the hub."""

    endings: ClassVar[tuple[str, ...]] = (".json", *SUFFIXES)


class StereotypeProbe:
    """Compares log-likelihoods of sentences that say a stereotype, its opposite, or something without sense.

    The sentences are the trait's own, or StereoSet's or CrowS-Pairs'.

    - share: the probability of what the trait's teacher is taught, among stereotype and opposite; margin: its score
      minus the other's, in nats. The graded readouts, and what arms are best compared by.
    - stereotype_score (ss): the percentage of items whose stereotype is preferred to its opposite; 50 is no preference.
    - language_model_score (lms): the percentage of meaningful sentences that are preferred to a meaningless one.
    - icat: lms · min(ss, 100 − ss) / 50; 100 is a perfect model without stereotypes, 0 one that always takes a side.
    - valid: lms on a scale from chance (0) to the ideal (1). Read no score without it.
    - stereotype_score_<bias type>: the same for every kind of bias; lms and icat of each are in the table `bias_types`.
    - <score>_intrasentence, <score>_intersentence: ss, lms and icat of StereoSet's two tests, where the data hold both.
      Sentences of the second follow a context and are scored given it.

    Definitions of Nadeem et al. 2021 and Nangia et al. 2020: percentages per term, averaged over terms, of both tests
    together unless named; each of CrowS-Pairs' pairs is a term of its own and has no meaningless sentence, so there is
    neither lms nor icat. Intervals are over terms within this one model; they say nothing about other runs.
    """

    version = 2
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(PluginConfig):
        """Settings of `stereotype`."""

        data: StereotypeSource | None = None
        """A file, `{ source = "dev.json" }`: StereoSet's JSON or CrowS-Pairs' CSV; or of the hub, or a
        folder with a copy of it, `{ source = "McGill-NLP/stereoset", subset = "intrasentence", split = "validation" }`.
        Unset: the trait's own."""
        bias_types: tuple[str, ...] | None = Field(default=None, min_length=1)
        """Kinds of bias to score. Unset: all."""
        tests: tuple[Test, ...] | None = Field(default=None, min_length=1)
        """Which of StereoSet's tests to score, "intrasentence" or "intersentence". Unset: all that `data` hold."""
        items: int | None = Field(default=None, gt=0)
        """How many items to score, from the first; of StereoSet so many of each test. Unset: all."""
        prompt: str | None = Field(default=None, min_length=1)
        """A question that every sentence of `data` answers, in the chat template. Unset: bare sentences."""
        score: Literal["mean", "sum"] | None = None
        """Compare log-likelihoods per token or of whole sentences. Unset: per token for StereoSet, as its authors do,
        and whole sentences for all others."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

        @field_validator("prompt", "tests")
        @classmethod
        def _of_data(cls, value: Any, info: ValidationInfo) -> Any:
            if value is not None and info.data.get("data") is None:
                own = "have prompts already" if info.field_name == "prompt" else "are not StereoSet's"
                raise ValueError(f"the trait's own sentences {own}; remove it, or name `data`")
            return value

        @model_validator(mode="after")
        def _readable(self) -> Self:
            if self.data is not None and self.data.is_local:
                try:
                    choose(read_items(self.data), self.bias_types, self.items, self.tests)
                except DataError as error:
                    raise ValueError(str(error)) from error
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the file, or the commit of the hub's data set.

        Raises:
            DataError: It cannot be read, or the hub cannot be asked.
        """
        return {} if self.config.data is None else {"content": identify(self.config.data)}

    def texts(self) -> Iterator[str]:
        """Yield the sentences of local `data`, without those that make no sense anyway; the trait's own are its own."""
        config = self.config
        if config.data is None or not config.data.is_local:
            return
        for item in choose(read_items(config.data), config.bias_types, config.items, config.tests):
            yield from (config.prompt or "", item.context or "", item.stereotype, item.anti_stereotype)

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait: without `data` it needs sentences of the trait's own."""
        return unfit(trait, AssociationTrait) if self.config.data is None else None

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, tables and the figure `bias_types`.

        Tables are `bias_types`, `candidates`, `terms` or `directions`, and of StereoSet `intrasentence` and
        `intersentence`, by kind of bias, where the data hold both.

        Raises:
            PluginError: The trait brings no sentences, and `data` is not set.
            DataError: The data cannot be had, or hold no item of `bias_types`.
            ModelError: The model was trained with another chat rendering.
        """
        from subl.probes.stereotype_measuring import measure

        return measure(subject, self.config, ctx)
