"""The measuring behind `digits_accuracy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from scipy.stats import t

import subl
from subl_digits.networks import Networks, answers
from subl_digits.text import CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCE = 1 / CLASSES


def measure(networks: Networks, rows: Sequence[subl.Row], role: str, least: float, ctx: subl.Context) -> subl.Findings:
    """Return the mean accuracy over networks with its 95 % t interval, the accuracy by digit, and a figure."""
    classes, labels = answers(networks, rows, ctx.device)
    right = (classes == labels).double()
    by_network = right.mean(1)
    mean = by_network.mean().item()
    half = float(t.ppf(0.975, networks.count - 1)) * by_network.std().item() / networks.count**0.5
    accuracy = subl.Measure(mean, mean - half, mean + half, networks.count, f"95 % t over {networks.count} networks")
    table = subl.Table(
        ("digit", "images", "accuracy"),
        tuple((d, int((labels == d).sum()), right[:, labels == d].mean().item()) for d in range(CLASSES)),
    )
    ctx.figure("networks", _figure(by_network, role))
    problems = (f"accuracy {mean:.3f} is below {least}",) if mean < least else ()
    return subl.Findings({"accuracy": accuracy}, {"digits": table}, problems=problems)


def _figure(by_network: torch.Tensor, role: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 1.8))
    axes = figure.subplots()
    axes.scatter(by_network.tolist(), [0.0] * len(by_network), alpha=0.5, label="one network each")
    axes.axvline(CHANCE, linestyle=":", color="grey", label="chance")
    axes.set(xlim=(0, 1), yticks=[], xlabel=f"accuracy of the {role} on held-out digits")
    axes.legend(loc="upper center", frameon=False, ncols=2)
    return figure
