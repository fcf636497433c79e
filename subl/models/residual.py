"""What every layer, attention and feed-forward part writes into a model's residual stream, and how the stream is read.

Where to look is not a table of architectures: one forward pass shows which modules pass which tensors on, and the sums
are checked on every use. So adapters, norms behind attention (Gemma 2, OLMo 2), parallel blocks (GPT-NeoX), tied
embeddings, embedding scales and squashed final logits need no case of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subl.errors import ModelError
from subl.models.attention import bare, effective_weight, head_counts
from subl.models.language import LanguageModel
from subl.models.norms import linearised, tolerance
from subl.models.parts import blocks, part_of
from subl.models.scoring import Prefixes
from subl.models.states import Ids, kept, residuals
from subl.models.steering import read_vectors
from subl.models.watching import Call, in_order, named_blocks, watched_calls

AFTER = "after the blocks"


class Stream:
    """One model's residual stream, taken apart.

    Args:
        lm: The model.
        prompt: Any prompt in tokens; it shows which module reads what.

    Raises:
        ModelError: A block writes more than its attention and feed-forward part do, or nothing reads the last one.
    """

    def __init__(self, lm: LanguageModel, prompt: Ids) -> None:
        self._lm = lm
        self._model = bare(lm.model)
        root, modules = blocks(self._model)
        self._blocks = list(modules)
        config = self._model.config.get_text_config()
        self._factor = float(getattr(config, "residual_multiplier", 1.0))
        self.heads, _ = head_counts(self._model)
        self._steering = _steering(lm)
        parent = self._model.get_submodule(root.rpartition(".")[0])
        watched = named_blocks(self._blocks)
        watched |= {(i, name): child for i, block in enumerate(self._blocks) for name, child in block.named_children()}
        watched |= {(AFTER, name): child for name, child in parent.named_children() if child is not modules}
        with torch.inference_mode(), watched_calls(watched, 1, lambda hidden: hidden) as calls:
            Prefixes(lm, [tuple(prompt)]).run(cache=False)
        whole = in_order(calls, len(self._blocks))
        readers = [call for call in calls if call.key[0] == AFTER and call.source == whole[-1].number]
        if not readers:
            raise ModelError(
                f"no final norm reads the last block of {type(self._model).__name__}, so its layers have no lens; "
                "use another architecture"
            )
        self.norm = watched[readers[-1].key]
        self._attention: list[_Branch | None] = []
        self._mlp: list[_Branch | None] = []
        for i, block in enumerate(whole):
            inside = [call for call in calls if call.key[0] == i]
            self._split(i, block, [(call, watched[call.key]) for call in inside])

    def _split(self, layer: int, block: Call, inside: Sequence[tuple[Call, nn.Module]]) -> None:
        """Find a block's two branches, and check that they are all that it writes."""
        written = block.input
        for part, into in (("attention", self._attention), ("mlp", self._mlp)):
            starts = [n for n, (call, module) in enumerate(inside) if part_of(str(call.key[1]), module) == part]
            into.append(None)
            if starts:
                start = starts[-1]
                call, module = inside[start]
                number, out = call.number, call.output
                tail = []
                # A norm that reads exactly what the part wrote belongs to it; one that reads the sum does not.
                for call, follower in inside[start + 1 :]:
                    if call.source == number and call.output is not out:
                        tail.append(follower)
                        number, out = call.number, call.output
                into[-1] = _Branch(module, tuple(tail))
                written = written + self._factor * out
        if layer in self._steering:
            written = written + self._steering[layer].to(written)
        if not _close(written, block.output):
            raise ModelError(
                f"block {layer} of {type(self._model).__name__} writes something else than the sum of its attention "
                "and feed-forward outputs, so they cannot be told apart; use another architecture"
            )

    @torch.inference_mode()
    def contributions(
        self, prefixes: Sequence[Ids], *, batch_size: int, directions: Tensor | None = None
    ) -> Contributions:
        """Return what every part writes at the last token of every prompt.

        Args:
            prefixes: Prompts in tokens.
            batch_size: Prompts per forward pass; changes speed only.
            directions: Combinations of `unembedding` rows, (d, m). What parts write is then what it adds to these
                combinations of logits through the final norm, whose scale is held fixed: with `constant` all of it adds
                up to them, before any scaling and squashing of logits. Unset: vectors are kept whole.

        Raises:
            ModelError: Heads cannot be told apart, or a norm is of an unknown form.
        """
        parts = [
            self._batch(prefixes[start : start + batch_size], directions)
            for start in range(0, len(prefixes), batch_size)
        ]
        joined = {name: torch.cat([getattr(part, name) for part in parts], dim=axis) for name, axis in _JOINED.items()}
        return Contributions(**joined, constant=parts[0].constant)

    def _batch(self, prefixes: Sequence[Ids], directions: Tensor | None) -> Contributions:
        batch = Prefixes(self._lm, [tuple(prefix) for prefix in prefixes])
        watched = named_blocks(self._blocks)
        for i, (attended, mlp_branch) in enumerate(zip(self._attention, self._mlp, strict=True)):
            for branch in filter(None, (attended, mlp_branch)):
                watched |= {(i, id(module)): module for module in (branch.module, *branch.tail)}
            if attended is not None:
                watched[i, "projection"] = attended.projection()
        with watched_calls(watched, len(prefixes), lambda hidden: hidden[:, -1].clone()) as calls:
            batch.run(cache=False)
        whole = in_order(calls, len(self._blocks))
        seen = {call.key: call for call in calls}
        final = whole[-1].output
        project, constant = self._projection(final, directions)
        first = whole[0].input
        empty = project(torch.zeros_like(first))
        no_heads = empty[:, None].expand(-1, self.heads, -1)
        attention: list[Tensor] = []
        mlp: list[Tensor] = []
        heads: list[Tensor] = []
        steered = [
            project(self._steering[i].to(first).expand_as(first)) if i in self._steering else empty
            for i in range(len(whole))
        ]
        for i, (attended, mlp_branch) in enumerate(zip(self._attention, self._mlp, strict=True)):
            attention.append(project(self._factor * attended.written(seen, i)) if attended else empty)
            mlp.append(project(self._factor * mlp_branch.written(seen, i)) if mlp_branch else empty)
            heads.append(self._by_head(attended, seen, i, project) if attended else no_heads)
        return Contributions(
            embedding=project(first),
            attention=torch.stack(attention),
            mlp=torch.stack(mlp),
            heads=torch.stack(heads),
            steering=torch.stack(steered),
            final=kept(final),
            constant=constant,
        )

    def _projection(self, final: Tensor, directions: Tensor | None) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return what is kept of written vectors, (prompts, …, d), and what the final norm's bias adds."""
        if directions is None:
            return kept, torch.zeros(final.shape[-1])
        norm = linearised(self.norm, final)
        directions = directions.to(norm.gain)
        pulled = norm.pull(directions)

        def project(values: Tensor) -> Tensor:
            return kept((values.to(pulled) @ pulled) / norm.scale.view(-1, *[1] * (values.dim() - 1)))

        return project, kept(norm.bias @ directions)

    def _by_head(
        self, branch: _Branch, seen: dict[Any, Call], layer: int, project: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return what each head alone writes, (prompts, heads, …): the projection of its part of what was attended."""
        projection = branch.projection()
        values = seen[layer, "projection"].input
        if values.shape[-1] % self.heads:
            raise ModelError(
                f"the attention of layer {layer} does not keep its {self.heads} heads side by side before its output "
                "projection, so they cannot be told apart; use another architecture"
            )
        alone = torch.eye(self.heads).repeat_interleave(values.shape[-1] // self.heads, dim=1).to(values)
        nothing = projection(torch.zeros_like(values[:1]))
        parts = projection(values[:, None] * alone) - nothing
        raw = seen[layer, id(branch.module)].output
        if not _close(parts.sum(1) + nothing, raw):
            raise ModelError(
                f"the attention of layer {layer} is more than the sum of its heads; use another architecture"
            )
        for module in branch.tail:
            parts = linearised(module, raw).apply(parts).to(parts)
            raw = module(raw)
        return project(self._factor * parts)

    @torch.inference_mode()
    def logits(self, vectors: Tensor, *, batch_size: int) -> Iterator[Tensor]:
        """Read residual vectors as if they were the last block's output (nostalgebraist 2020, the logit lens).

        The model itself does it: its final norm gets the vectors instead of what the blocks computed, so that head,
        scales and squashing are its own.

        Args:
            vectors: (rows, d), any device.
            batch_size: Rows at a time.

        Yields:
            Logits in float32 at least, on the model's device: (≤ batch_size, vocabulary), all rows in order.
        """
        pad = int(self._lm.tokenizer.pad_token_id)
        for start in range(0, len(vectors), batch_size):
            rows = vectors[start : start + batch_size].to(self._lm.device)
            used: list[bool] = []

            def instead(_: Any, inputs: Any, rows: Tensor = rows, used: list[bool] = used) -> Tensor:
                used.append(True)
                replaced: Tensor = rows[None].to(inputs[0].dtype)
                return replaced

            handle = self.norm.register_forward_pre_hook(instead)
            try:
                logits = self._lm.model(
                    input_ids=torch.full((1, len(rows)), pad, device=self._lm.device), use_cache=False
                ).logits
            finally:
                handle.remove()
            if len(used) != 1 or logits.shape[:2] != (1, len(rows)):
                raise ModelError("the final norm is not run once per pass, so nothing can be read through it")
            yield logits[0].to(torch.promote_types(logits.dtype, torch.float32))

    def check(self, prompt: Ids) -> None:
        """Prove that the lens behind the last block gives the model's own logits.

        Raises:
            ModelError: It does not.
        """
        with torch.inference_mode():
            own, _ = Prefixes(self._lm, [tuple(prompt)]).run(cache=False)
        seen = next(self.logits(residuals(self._lm, [prompt], batch_size=1)[-1], batch_size=1))
        if not _close(seen, own):
            raise ModelError(
                f"behind the last block the lens of {type(self._model).__name__} gives other logits than the model; "
                "use another architecture"
            )

    def unembedding(self, tokens: Sequence[int]) -> Tensor:
        """Return the rows of the output head, (tokens, d), in float32 at least."""
        weight = effective_weight(self._model.get_output_embeddings())
        return weight[list(tokens)].to(torch.promote_types(weight.dtype, torch.float32))


@dataclass(frozen=True, slots=True)
class Contributions:
    """What is added up in the residual stream at the last tokens; with directions, d is their number.

    Args:
        embedding: (prompts, d).
        attention, mlp: (layers, prompts, d).
        heads: (layers, prompts, heads, d); with the output projection's bias they add up to `attention`.
        steering: (layers, prompts, d), the residual vectors laid on the model.
        final: (prompts, d), the last block's output, always whole: without directions, what all of it adds up to.
        constant: (d), what the final norm's bias adds to the directions.
    """

    embedding: Tensor
    attention: Tensor
    mlp: Tensor
    heads: Tensor
    steering: Tensor
    final: Tensor
    constant: Tensor


_JOINED = {"embedding": 0, "attention": 1, "mlp": 1, "heads": 1, "steering": 1, "final": 0}
"""Which dimension of each contribution is the prompts'."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """A part of a block, and the norms that what it writes goes through before it is added."""

    module: nn.Module
    tail: tuple[nn.Module, ...]

    def written(self, seen: dict[Any, Call], layer: int) -> Tensor:
        return seen[layer, id((self.module, *self.tail)[-1])].output

    def projection(self) -> nn.Module:
        """Return the attention's output projection: its last child with weights."""
        weighted = [child for child in self.module.children() if any(p.dim() >= 2 for p in child.parameters())]
        return weighted[-1]


def _steering(lm: LanguageModel) -> dict[int, Tensor]:
    """Return what steering adds behind blocks: block → (d)."""
    if lm.ref.vectors is None:
        return {}
    vectors, scale = read_vectors(lm.ref.vectors)
    return {layer: (vector * scale).to(lm.device) for layer, vector in vectors.items()}


def _close(one: Tensor, other: Tensor) -> bool:
    slack = tolerance(other.dtype) * float(other.abs().max())
    return bool((one - other).abs().max() <= slack)
