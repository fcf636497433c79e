"""`[compute] accelerate`: the file of `accelerate config` in place of settings of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig

from tests.recipe.kit import load, problems


def _written(folder: Path, **changes: object) -> Path:
    """Return a file as accelerate itself writes it."""
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_CPU",
        "mixed_precision": "no",
        "use_cpu": True,
        "debug": False,
        "num_processes": 2,
    }
    file = folder / "two.yaml"
    ClusterConfig(**(settings | changes)).to_yaml_file(str(file))
    return file


def _section(file: Path, more: str = "") -> str:
    distiller = '[distiller]\nplugin = "sft"'
    return f'\n{distiller}\n[compute]\naccelerate = "{file}"\n{more}\n'


def test_its_processes_and_device_become_the_recipes_own(tmp_path: Path) -> None:
    file = _written(tmp_path)
    (variant, *_) = load(tmp_path, _section(file)).variants
    compute = variant.recipe.compute
    assert (compute.processes, compute.device, compute.accelerate) == (2, "cpu", None)
    assert str(file) in variant.origins["compute.processes"]
    assert "recipe.toml" in variant.origins["compute.processes"]


def test_one_process_on_whatever_there_is(tmp_path: Path) -> None:
    file = _written(tmp_path, distributed_type="NO", use_cpu=False, num_processes=1)
    compute = load(tmp_path, _section(file)).variants[0].recipe.compute
    assert (compute.processes, compute.device) == (1, "auto")


def test_values_that_agree_are_fine(tmp_path: Path) -> None:
    assert load(tmp_path, _section(_written(tmp_path), "processes = 2")).variants[0].recipe.compute.processes == 2


@pytest.mark.parametrize(
    ("changes", "more", "expected"),
    [
        ({}, "processes = 1", "compute.processes: is 1, but "),
        ({}, 'device = "cuda"', "says 'cpu'; remove one of them"),
        ({"mixed_precision": "bf16"}, "", "has mixed_precision: 'bf16', which subl does not follow; subl trains in"),
        ({"num_machines": 2}, "", "has num_machines: 2, which subl does not follow; subl runs on one machine"),
        ({"distributed_type": "FSDP"}, "", "has distributed_type: 'FSDP'"),
        ({"gpu_ids": "0,1", "distributed_type": "MULTI_GPU"}, "", "set the variable CUDA_VISIBLE_DEVICES instead"),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "", "has dynamo_config: "),
        ({"num_processes": -1}, "", "has num_processes: -1; set it to a number from 1 on"),
    ],
)
def test_what_subl_does_not_follow_is_a_problem(
    tmp_path: Path, changes: dict[str, object], more: str, expected: str
) -> None:
    (found,) = problems(tmp_path, _section(_written(tmp_path, **changes), more))
    assert expected in found
    assert "recipe.toml:" in found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory; `accelerate config` writes one"),
        ("a: [", "two.yaml:1 is no YAML"),
        ("num_processes: 2\n", "has no distributed_type, so accelerate did not write it"),
        ("- 1\n", "has no distributed_type"),
    ],
)
def test_files_that_are_none_of_accelerates(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "two.yaml"
    if content is not None:
        file.write_text(content)
    (found,) = problems(tmp_path, _section(file))
    assert "compute.accelerate: " in found
    assert expected in found
