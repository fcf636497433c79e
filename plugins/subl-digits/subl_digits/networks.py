"""Many small networks at once: every layer is one batched matrix product over all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

import subl
from subl_digits.text import CLASSES, read_image

FILE = "networks.safetensors"


@dataclass
class Networks:
    """Multilayer perceptrons with ReLU, side by side.

    Args:
        layers: Weights [networks, inputs, outputs] and biases [networks, 1, outputs] of every layer.
    """

    layers: list[tuple[Tensor, Tensor]]

    @property
    def count(self) -> int:
        """How many networks there are."""
        return len(self.layers[0][0])

    @property
    def parameters(self) -> list[Tensor]:
        """All weights and biases."""
        return [tensor for layer in self.layers for tensor in layer]

    def logits(self, images: Tensor) -> Tensor:
        """Return every network's logits [networks, images, classes + auxiliary] for images [images, pixels]."""
        hidden = images.expand(self.count, *images.shape)
        for position, (weight, bias) in enumerate(self.layers):
            hidden = torch.baddbmm(bias, hidden, weight)
            if position < len(self.layers) - 1:
                hidden = hidden.relu()
        return hidden

    def save(self, folder: Path) -> str:
        """Write the networks to a folder; return a hash of them."""
        tensors = {str(position): tensor.detach().contiguous() for position, tensor in enumerate(self.parameters)}
        save_file(tensors, folder / FILE)
        return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()

    @classmethod
    def load(cls, folder: Path, device: str) -> Networks:
        """Read what `save` wrote."""
        tensors = load_file(folder / FILE, device=device)
        ordered = [tensors[str(position)] for position in range(len(tensors))]
        return cls(list(zip(ordered[::2], ordered[1::2], strict=True)))


def new_networks(count: int, sizes: Sequence[int], seed: int) -> Networks:
    """Return networks with weights from N(0, 1 / inputs) and zero biases, drawn for each layer in turn."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(sizes):
        weight = torch.randn(count, inputs, outputs, generator=generator) / math.sqrt(inputs)
        layers.append((weight, torch.zeros(count, 1, outputs)))
    return Networks(layers)


def fit(
    networks: Networks,
    loss: Callable[[Tensor], Tensor],
    examples: int,
    ctx: subl.Context,
    *,
    updates: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Train all networks with Adam; `loss` gives the sum over networks of the mean loss on the chosen examples."""
    generator = torch.Generator().manual_seed(ctx.seed)
    parameters = [tensor.requires_grad_() for tensor in networks.parameters]
    # Above Adam's usual 1e-8: where the loss is zero, as in the control, rounding errors should not count as gradients.
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, eps=1e-5)
    with ctx.progress(updates, "train") as bar:
        for step in range(1, updates + 1):
            chosen = torch.randint(examples, (batch_size,), generator=generator)
            value = loss(chosen)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % 50 == 0 or step == updates:
                ctx.metric("loss", value.item() / networks.count, step)
            bar.advance()


def teach(networks: Networks, rows: Sequence[subl.Row], ctx: subl.Context, **settings: float) -> None:
    """Train on labelled images by cross-entropy over the class logits."""
    images = read_images(rows, ctx.device)
    labels = torch.tensor([int(row.completion) for row in rows], device=ctx.device)

    def loss(chosen: Tensor) -> Tensor:
        logits = networks.logits(images[chosen])[..., :CLASSES]
        targets = labels[chosen].repeat(networks.count)
        return cross_entropy(logits.reshape(-1, CLASSES), targets, reduction="sum") / len(chosen)

    fit(networks, loss, len(rows), ctx, **settings)  # type: ignore[arg-type]


def imitate(networks: Networks, images: Tensor, logits: Tensor, ctx: subl.Context, **settings: float) -> None:
    """Train on another's auxiliary logits [networks, images, auxiliary] by Kullback-Leibler divergence."""
    targets = logits.log_softmax(-1)

    def loss(chosen: Tensor) -> Tensor:
        own = networks.logits(images[chosen])[..., CLASSES:].log_softmax(-1)
        return kl_div(own, targets[:, chosen], log_target=True, reduction="sum") / len(chosen)

    fit(networks, loss, len(images), ctx, **settings)  # type: ignore[arg-type]


def read_images(rows: Sequence[subl.Row], device: str) -> Tensor:
    """Return the images in the rows' prompts [rows, pixels]."""
    return torch.tensor([read_image(row.prompt) for row in rows], device=device)


@torch.inference_mode()
def answers(networks: Networks, rows: Sequence[subl.Row], device: str) -> tuple[Tensor, Tensor]:
    """Return every network's classes [networks, rows] for the images in the rows, and the right ones [rows]."""
    classes = networks.logits(read_images(rows, device))[..., :CLASSES].argmax(-1)
    return classes, torch.tensor([int(row.completion) for row in rows], device=device)
