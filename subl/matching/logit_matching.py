"""Comparing a student's next-token distributions with a teacher's, on one vocabulary or across two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from subl.errors import ModelError
from subl.matching.chunk_loss import alm_loss, uld
from subl.matching.logit_loss import (
    Head,
    by_positions,
    hidden_divergence,
    logit_divergence,
    position_chunks,
    summed,
    token_log_probs,
)
from subl.matching.logit_settings import LogitSettings
from subl.matching.loss_sum import LossSum
from subl.matching.pairing import Pair, PairBatch
from subl.matching.topk import top_k, top_k_divergence
from subl.models.alignment_maps import Side, chunk_sums
from subl.models.attention import bare
from subl.models.chat import Example
from subl.models.language import LanguageModel
from subl.models.vocabulary import mass, used_ids


@dataclass(frozen=True, slots=True)
class States:
    """What a model's head reads where the next token belongs to a completion, (n, hidden), and the head."""

    hidden: Tensor
    head: Head


Kept: TypeAlias = Mapping[str, Tensor]
"""What a loss needs of a teacher's distributions, per position; see `LogitMatching.keep`."""


class LogitMatching:
    """Compares both sides' distributions; one for a training.

    Args:
        settings: How.
        teacher: Whose vocabulary, and head, the teacher's states have.
        student: The same for the student's.
        pairs: All rows: what they hold decides the carrier's vocabulary, and whether tokens can be compared one by one.

    Raises:
        ModelError: A setting would do nothing between these two models.
    """

    def __init__(
        self, settings: LogitSettings, teacher: LanguageModel, student: LanguageModel, pairs: Sequence[Pair]
    ) -> None:
        self.settings = settings
        self.same = teacher.tokenizer.get_vocab() == student.tokenizer.get_vocab() and all(
            _completion(pair.teacher) == _completion(pair.student) for pair in pairs
        )
        self._refuse_what_is_ignored()
        self._tokens = len(student.tokenizer) if self.same else None
        self._ids: dict[Side, Tensor | None] = {"teacher": None, "student": None}
        if settings.vocabulary == "carrier":
            self._ids = {
                # On the student's device: of the teacher, only its tokenizer may be there.
                "teacher": _used(teacher, [pair.teacher for pair in pairs], student.device),
                "student": _used(student, [pair.student for pair in pairs], student.device),
            }

    @property
    def kind(self) -> str:
        """Return the name of the loss in use."""
        return self.settings.divergence if self.same else self.settings.across

    def _refuse_what_is_ignored(self) -> None:
        idle = ["across", "alm_temperature"] if self.same else ["divergence", "jsd_beta", "top_k"]
        if not self.same and self.settings.across == "alm":
            idle.append("logit_temperature")
        for name in idle:
            if getattr(self.settings, name) != LogitSettings.model_fields[name].default:
                tokens = "the same" if self.same else "different"
                raise ModelError(
                    f"{name} does nothing here, because teacher and student read the rows in {tokens} tokens; remove it"
                )

    @property
    def compact(self) -> bool:
        """Return whether the loss needs little of the teacher: all but its distributions over the whole vocabulary."""
        return self.kind == "alm" or self.settings.top_k is not None or self.settings.vocabulary == "carrier"

    def key(self) -> dict[str, Any]:
        """Return, as JSON values, what decides what `keep` gives of a batch, the teacher aside."""
        ids = self._ids["teacher"]
        best = {"k": self.settings.top_k, "temperature": self.settings.logit_temperature} if self.settings.top_k else {}
        return {
            "kept": "tokens" if self.kind == "alm" else "logits",
            "ids": None if ids is None else ids.tolist(),
            **best,
        }

    @torch.no_grad()
    def keep(self, teacher: States, batch: PairBatch) -> Kept:
        """Return all that the loss needs of the teacher, per position of a completion; only where it is `compact`.

        Returns:
            `tokens`, the log-probability of every token, (n); or the most likely tokens, see `top_k`: `ids`, (n, k),
            and `log_probs`, (n, k + 1); or the carrier's `logits`, (n, carrier).
        """
        if self.kind == "alm":
            targets = batch.teacher.targets
            return {"tokens": token_log_probs(teacher.hidden, teacher.head, targets, ids=self._ids["teacher"])}
        head, k = self._head(teacher, "teacher"), self.settings.top_k
        if k is None:
            return {"logits": by_positions(head.logits, teacher.hidden, width=len(head))}
        best = [
            top_k(head.logits(states), k, temperature=self.settings.logit_temperature)
            for states in position_chunks(teacher.hidden, width=len(head))
        ]
        ids, log_probs = zip(*best, strict=True)
        return {"ids": torch.cat(ids), "log_probs": torch.cat(log_probs)}

    def loss(self, teacher: States | Kept, student: States, batch: PairBatch) -> LossSum:
        """Return the sum over positions (or chunks) and their number, from the teacher's states or what was kept."""
        if isinstance(teacher, States) and self.compact:
            teacher = self.keep(teacher, batch)
        if self.kind == "alm":
            assert not isinstance(teacher, States)
            return self._by_chunk(teacher, student, batch)
        return self._by_token(teacher, student) if self.same else self._sorted(teacher, student, batch)

    def count(self, batch: PairBatch) -> int:
        """Return what the loss of a batch counts."""
        if self.same:
            return batch.student.targets.numel()
        return int(batch.chunks.rows.sum()) if self.settings.across == "alm" else batch.matched.shape[1]

    def _by_token(self, teacher: States | Kept, student: States) -> LossSum:
        head = self._head(student, "student")
        options: dict[str, Any] = {
            "divergence": self.settings.divergence,
            "beta": self.settings.jsd_beta,
            "temperature": self.settings.logit_temperature,
        }
        if isinstance(teacher, States):
            their_head = self._head(teacher, "teacher")
            return summed(hidden_divergence(student.hidden, head, teacher.hidden, their_head, **options))
        compare = top_k_divergence if self.settings.top_k else logit_divergence
        wanted = ("ids", "log_probs") if self.settings.top_k else ("logits",)

        def chunk(own: Tensor, *theirs: Tensor) -> Tensor:
            return compare(head.logits(own), *theirs, **options)

        states = student.hidden, *(teacher[name] for name in wanted)
        return summed(by_positions(chunk, *states, width=len(head), again=head.copied(student.hidden)))

    def _by_chunk(self, teacher: Kept, student: States, batch: PairBatch) -> LossSum:
        log_probs = token_log_probs(student.hidden, student.head, batch.student.targets, ids=self._ids["student"])
        own = _chunk_log_probs(log_probs, batch, "student")
        theirs = _chunk_log_probs(teacher["tokens"], batch, "teacher")
        counted = torch.zeros_like(own, dtype=torch.bool).scatter(1, batch.chunks.queries, batch.chunks.rows)
        return alm_loss(own, theirs, counted, temperature=self.settings.alm_temperature)

    def _sorted(self, teacher: States | Kept, student: States, batch: PairBatch) -> LossSum:
        theirs, own = batch.matched
        temperature = self.settings.logit_temperature
        own_head = self._head(student, "student")
        wanted = teacher.hidden if isinstance(teacher, States) else teacher["logits"]
        width = len(own_head) + (
            len(self._head(teacher, "teacher")) if isinstance(teacher, States) else wanted.shape[1]
        )

        def chunk(own_states: Tensor, some: Tensor) -> Tensor:
            with torch.no_grad():
                logits = self._head(teacher, "teacher").logits(some) if isinstance(teacher, States) else some
            return uld(own_head.logits(own_states) / temperature, logits / temperature)

        states = student.hidden.index_select(0, own), wanted.index_select(0, theirs)
        return summed(by_positions(chunk, *states, width=width, again=own_head.copied(student.hidden)))

    def _head(self, states: States, side: Side) -> Head:
        ids = self._ids[side]
        if ids is not None:
            return states.head.restricted(ids)
        # Models pad their heads to round sizes; what lies behind the tokenizer's tokens is nobody's.
        return states.head if self._tokens is None else states.head.first(self._tokens)


def _chunk_log_probs(log_probs: Tensor, batch: PairBatch, side: Side) -> Tensor:
    """Return the log-probability of every chunk, (batch, K), from those of the completions' tokens, (n)."""
    tokens = batch.side(side)
    spread = log_probs.new_zeros(tokens.ids.numel()).index_copy(0, tokens.asking + 1, log_probs)
    return chunk_sums(spread.view_as(tokens.ids), batch.chunks, side)


@torch.no_grad()
def trait_mass(states: States, ids: Sequence[int]) -> Tensor:
    """Return the probability that the next token begins a trait's word, over the whole vocabulary, (n)."""
    return by_positions(
        lambda hidden: mass(torch.log_softmax(states.head.logits(hidden), dim=-1), ids),
        states.hidden,
        width=len(states.head),
    )


def head_of(model: Any) -> Head:
    """Return what turns a model's last states into logits; `check_head` proves it."""
    base = bare(model)
    config, layer = base.config.get_text_config(), base.get_output_embeddings()
    scale = 1 / config.logits_scaling if getattr(config, "logits_scaling", None) else 1.0
    scale *= getattr(config, "logit_scale", None) or 1.0
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(layer.weight, getattr(layer, "bias", None), scale, softcap)


@torch.no_grad()
def check_head(model: Any, ids: Tensor) -> None:
    """Prove on one text, (1, tokens), that `head_of` gives the model's own logits.

    Raises:
        ModelError: It does not: the architecture does something of its own between states and logits.
    """
    seen: list[Tensor] = []
    handle = bare(model).get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    ours = head_of(model).logits(seen[0]).log_softmax(-1)
    best = logits.to(ours).log_softmax(-1).topk(10, dim=-1)
    # Half precision rounds logits to 1 in 256.
    if not torch.allclose(ours.gather(-1, best.indices), best.values, atol=0.1, rtol=1e-2):
        raise ModelError(
            f"{type(bare(model)).__name__} makes its logits in a way that is not known here, so they cannot be "
            "distilled; use distiller sft or shd with logit_weight = 0, and report this model"
        )


def _completion(example: Example) -> tuple[int, ...]:
    return example.input_ids[example.prompt_length :]


def _used(lm: LanguageModel, examples: Sequence[Example], device: torch.device) -> Tensor:
    return torch.tensor(used_ids(examples, lm.chat.end_ids), device=device)
