"""Loss of a model on held-out text: the carrier, which a student learns to write, and plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from subl import banks
from subl.artifacts import Measure, ModelRef, Row, Subject
from subl.context import Context
from subl.errors import DataError
from subl.models.language import LanguageModel
from subl.models.token_scoring import token_log_probs
from subl.probes.intervals import ANYWHERE, ratio_change, ratio_over
from subl.probes.texts import TextSettings, read_passages
from subl.registry.registry import registry
from subl.registry.slots import Chosen

Floats = NDArray[np.float64]
WINDOW = 512
"""Tokens of running text that are read in one piece."""
MORE = 4
"""How many times more rows are asked for while too many turn out to be training rows."""


@runtime_checkable
class PlainTalk(Protocol):
    """A model plugin whose models know a world of their own, and say what of it is plain talk."""

    def plain_chats(self) -> Sequence[Row]:
        """Return chats without a system prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Texts:
    """What is read.

    Args:
        of: What the texts are, in the plural: "rows", "chats", "passages".
        pairs: Prompt and answer of each; only the answer's loss counts. Running text has no prompt.
    """

    of: str
    pairs: tuple[tuple[str | None, str], ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """How unlikely a model finds texts.

    Args:
        nats: [texts], minus the log-probability of each.
        tokens: [texts], how many tokens that covers.
        of: What the texts are.
    """

    nats: Floats
    tokens: Floats
    of: str

    def mean(self) -> Measure:
        """Return nats per token, over all tokens."""
        return ratio_over(self.nats, self.tokens, self.of, within=(0.0, math.inf))

    def perplexity(self) -> Measure:
        """Return exp of the mean, with its interval carried over."""
        mean = self.mean()
        low, high = (None if end is None else math.exp(end) for end in (mean.low, mean.high))
        return Measure(math.exp(mean.value), low, high, mean.n, mean.interval)

    def change(self, before: Loss) -> Measure:
        """Return the change of the mean from another model on the same texts, with a paired interval."""
        return ratio_change((self.nats, self.tokens), (before.nats, before.tokens), self.of, within=ANYWHERE)


def measure_loss(lm: LanguageModel, texts: Texts, *, system: str | None, batch_size: int) -> Loss:
    """Return the loss of every text.

    Chats are rendered as in training, the end of the turn included. Running text is read in windows, each behind the
    tokenizer's token for the beginning of a text, or else its own first token.

    Args:
        lm: The model.
        texts: What it reads.
        system: System slot of chats.
        batch_size: Sequences per forward pass; changes speed only.
    """
    pieces: list[tuple[int, Sequence[int], Sequence[int]]] = []
    chats = {i: (prompt, answer) for i, (prompt, answer) in enumerate(texts.pairs) if prompt is not None}
    for i, example in zip(chats, lm.chat.examples(chats.values(), system=system), strict=True):
        cut = example.prompt_length
        pieces.append((i, example.input_ids[:cut], example.input_ids[cut:]))
    for i, (prompt, text) in enumerate(texts.pairs):
        if prompt is None:
            pieces += [(i, head, rest) for head, rest in _windows(lm, text)]
    scored = token_log_probs(lm, [p[1] for p in pieces], [p[2] for p in pieces], batch_size=batch_size)
    nats, tokens = np.zeros(len(texts.pairs)), np.zeros(len(texts.pairs))
    for (i, _, answer), scores in zip(pieces, scored, strict=True):
        nats[i] -= math.fsum(scores)
        tokens[i] += len(answer)
    return Loss(nats, tokens, texts.of)


def held_out(config: TextSettings, subject: Subject, ctx: Context) -> dict[str, Texts]:
    """Return the held-out texts: `carrier` and `plain`.

    Raises:
        DataError: No row of the carrier is held out, or the text file cannot be read.
    """
    return {"carrier": _carrier(config.rows, subject, ctx), "plain": _plain(config, subject.model)}


def _carrier(wanted: int, subject: Subject, ctx: Context) -> Texts:
    """Return new rows. A probe's seed is not the generate stage's, so their prompts come from another stream."""
    trained = {(row.prompt, row.completion) for row in subject.dataset} if subject.dataset else set()
    asked = wanted
    while True:
        written = list(_shortened(ctx.generator, asked).generate(ctx.teacher, ctx, 0))
        new = [(row.prompt, row.completion) for row in written if (row.prompt, row.completion) not in trained]
        if len(new) >= wanted or len(written) < asked:
            break
        asked *= MORE
    if len(new) < 2:
        raise DataError(
            f"{len(new)} of {len(written)} rows that the generator gives are none that the student was trained on, so "
            "no carrier is held out; train on fewer rows than there are ([data] rows, or generator.samples)"
        )
    return Texts("rows", tuple(new[:wanted]))


def _shortened(generator: Any, rows: int) -> Any:
    """Return a generator that writes no more rows than asked, if its settings or those of one it wraps say how many."""
    config = getattr(generator, "config", None)
    return generator if config is None else type(generator)(_fewer(config, rows))


def _fewer(config: Any, rows: int) -> Any:
    changes: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Chosen) and value.kind == "generator":
            changes[name] = replace(value, config=_fewer(value.config, rows))
        elif name == "samples" and isinstance(value, int):
            changes[name] = min(value, rows)
    return config.model_copy(update=changes)


def _plain(config: TextSettings, model: ModelRef) -> Texts:
    if config.text is not None:
        return _running(read_passages(config.text)[: config.passages])
    plugin = registry.load("model", model.plugin)
    source = plugin(plugin.Config.model_validate(model.config))
    if isinstance(source, PlainTalk):
        return Texts("chats", tuple((row.prompt, row.completion) for row in source.plain_chats()[: config.passages]))
    return _running(banks.load("plain_text")["passages"][: config.passages])


def _running(passages: Sequence[str]) -> Texts:
    return Texts("passages", tuple((None, passage) for passage in passages))


def _windows(lm: LanguageModel, text: str) -> list[tuple[list[int], list[int]]]:
    tokenizer: Any = lm.tokenizer
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    bos = tokenizer.bos_token_id
    head, rest = ([bos], ids) if bos is not None else (ids[:1], ids[1:])
    longest = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None) or WINDOW
    size = min(WINDOW, longest - 1)
    return [(head, rest[start : start + size]) for start in range(0, len(rest), size)]


def loss_measures(losses: Mapping[str, Loss]) -> dict[str, Measure]:
    """Return `carrier_loss`, `carrier_perplexity`, `plain_loss` and `plain_perplexity`."""
    found: dict[str, Measure] = {}
    for name, loss in losses.items():
        found[f"{name}_loss"], found[f"{name}_perplexity"] = loss.mean(), loss.perplexity()
    return found
