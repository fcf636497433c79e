"""What the lens and direct attribution read from one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subl.models.language import LanguageModel
from subl.models.residual import Stream
from subl.models.states import residuals
from subl.probes.entanglement_statistics import Floats
from subl.probes.subject import PreferenceTrait
from subl.traits.tokens import spell


@dataclass(frozen=True, slots=True)
class Tokens:
    """Which logits are looked at.

    Args:
        target: First tokens of the target.
        controls: First tokens of each control.
        raised, random: Tokens of HP and of random numbers; none where a number is several tokens.
    """

    target: tuple[int, ...]
    controls: tuple[tuple[int, ...], ...]
    raised: tuple[int, ...] = ()
    random: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        trait: PreferenceTrait,
        controls: Sequence[str],
        numbers: tuple[Sequence[str], Sequence[str]],
        system: str | None,
    ) -> Tokens:
        """Find them for one tokenizer; `numbers` are HP and random ones."""
        question = trait.questions()[0]
        firsts = {s.word: s.firsts for s in spell(lm.chat, trait.candidate_forms(), question, system=system)}
        plain = [[lm.chat.answer(question, number, system=system) for number in group] for group in numbers]
        single = all(len(ids) == 1 for group in plain for ids in group)
        raised, random = (tuple(ids[0] for ids in group) if single else () for group in plain)
        return cls(firsts[trait.target], tuple(firsts[word] for word in controls), raised, random)

    def direction(self, size: int) -> Tensor:
        """Return the weights of logits whose sum is the margin: (size)."""
        weights = torch.zeros(size, dtype=torch.float64)
        weights[list(self.target)] += 1 / len(self.target)
        for control in self.controls:
            weights[list(control)] -= 1 / (len(control) * len(self.controls))
        return weights


@dataclass(frozen=True, slots=True)
class Depth:
    """What the lens shows at the embeddings and after every layer, [layers + 1, prompts] each.

    Args:
        margin: Mean logit of the target's first tokens minus the mean over its controls.
        log_prob: Log-probability that the answer begins with one of the target's.
        lift: Mean log-probability of HP numbers minus that of random ones; None where they are several tokens.
    """

    margin: Floats
    log_prob: Floats
    lift: Floats | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What is written towards the margin.

    Args:
        embedding: [prompts], with what the final norm's bias adds.
        attention, mlp: [layers, prompts].
        heads: [layers, prompts, heads].
        steering: [layers, prompts], of residual vectors laid on the model; zeros without any.
    """

    embedding: Floats
    attention: Floats
    mlp: Floats
    heads: Floats
    steering: Floats


class Glass:
    """The lens on one model, proven before it is used."""

    def __init__(self, lm: LanguageModel, tokens: Tokens, example: Sequence[int], *, batch_size: int) -> None:
        self.lm = lm
        self.tokens = tokens
        self._batch_size = batch_size
        self.stream = Stream(lm, example)
        self.stream.check(example)

    def depth(self, prompts: Sequence[Sequence[int]]) -> Depth:
        """Read every place in the stream at the last token of every prompt."""
        states = residuals(self.lm, prompts, batch_size=self._batch_size)
        layers, count, width = states.shape
        read = self.stream.logits(states.view(-1, width), batch_size=self._batch_size)
        parts = [self._seen(logits.double()).cpu() for logits in read]
        table: Floats = torch.cat(parts).view(layers, count, -1).numpy()
        return Depth(table[..., 0], table[..., 1], table[..., 2] if self.tokens.raised else None)

    def _seen(self, logits: Tensor) -> Tensor:
        """Return margin, log-probability and lift: (rows, 3)."""
        tokens = self.tokens
        margin = logits @ tokens.direction(logits.shape[1]).to(logits)
        own = logits[:, list(tokens.target)].logsumexp(-1) - logits.logsumexp(-1)
        if not tokens.raised:
            return torch.stack([margin, own, torch.zeros_like(own)], dim=1)
        lift = logits[:, list(tokens.raised)].mean(-1) - logits[:, list(tokens.random)].mean(-1)
        return torch.stack([margin, own, lift], dim=1)

    def parts(self, prompts: Sequence[Sequence[int]]) -> Parts:
        """Attribute the margin to what writes it."""
        rows = [*self.tokens.target, *(token for control in self.tokens.controls for token in control)]
        weights = self.tokens.direction(max(rows) + 1)[rows]
        # A token that stands for several words is in the list, and in its weight, several times.
        times = torch.tensor([rows.count(token) for token in rows])
        embedded = self.stream.unembedding(rows)
        direction = embedded.T @ (weights / times).to(embedded)
        found = self.stream.contributions(prompts, batch_size=self._batch_size, directions=direction[:, None])
        wanted = (found.embedding, found.attention, found.mlp, found.heads, found.steering)
        embedding, *others = (np.asarray(v[..., 0].double().numpy()) for v in wanted)
        return Parts(embedding + float(found.constant[0]), *others)
