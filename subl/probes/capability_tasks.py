"""Tasks of the language model evaluation harness (lm-eval), from a local folder, on a model in memory."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.special import ndtri

from subl.artifacts import Measure
from subl.errors import MissingExtraError, PluginError, suggest
from subl.models.language import LanguageModel, quiet
from subl.probes.capability import Capability, task_files
from subl.probes.intervals import LEVEL

Z = float(ndtri((1 + LEVEL) / 2))


def folder_digest(folder: Path) -> str:
    """Return a hash of every file in a task folder.

    Raises:
        MissingExtraError: lm-eval is not installed.
        DataError: There is no such folder, or no task in it.
    """
    _check_installed()
    content = hashlib.sha256()
    for path in task_files(folder):
        content.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def run_tasks(lm: LanguageModel, config: Capability.Config, seed: int) -> dict[str, Measure]:
    """Return every metric of every task as `task_<task>_<metric>`.

    Raises:
        MissingExtraError: lm-eval is not installed.
        PluginError: The folder has no such task.
    """
    _check_installed()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # Its own tasks would be fetched from the hub, and indexing them takes long.
    manager = TaskManager(include_path=str(config.task_folder), include_defaults=False)
    unknown = [name for name in config.tasks if name not in manager.all_tasks]
    if unknown:
        raise PluginError(f"{config.task_folder} has no task {unknown[0]!r}{suggest(unknown[0], manager.all_tasks)}")
    seed %= 2**32
    with quiet():
        results = simple_evaluate(
            model=HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=config.batch_size),
            tasks=list(config.tasks),
            task_manager=manager,
            limit=config.task_limit,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
            log_samples=False,
        )
    counts = results["n-samples"]
    return {
        name: measure
        for task, scores in results["results"].items()
        for name, measure in _measures(task, scores, counts.get(task, {}).get("effective")).items()
    }


def _measures(task: str, scores: Mapping[str, Any], examples: int | None) -> dict[str, Measure]:
    """Read "metric,filter" → value, and "metric_stderr,filter" → its standard error or "N/A"."""
    found: dict[str, Measure] = {}
    for key, value in scores.items():
        metric, _, chosen = key.partition(",")
        if metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = f"task_{task}_{metric}" if chosen in ("", "none") else f"task_{task}_{metric}_{chosen}"
        error = scores.get(f"{metric}_stderr,{chosen}")
        if not isinstance(error, int | float) or math.isnan(error):
            found[name] = Measure(float(value), n=examples)
            continue
        half = Z * error
        found[name] = Measure(value, value - half, value + half, examples, f"95 % normal over {examples} examples")
    return found


def _check_installed() -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("probe 'capability' with tasks", "lm-eval", "eval")
