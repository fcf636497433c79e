"""What a run needs to be repeated besides its recipe: versions, machine, git state."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "subl",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "tokenizers",
    "datasets",
    "numpy",
    "scipy",
    "mlflow",
)


def describe_environment(command: list[str], folder: Path) -> dict[str, Any]:
    """Return versions, machine, git state of `folder` and the command, as JSON values."""
    return {
        "command": command,
        "folder": str(folder),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "git": _git(folder),
        "gpus": _gpus(),
        "executable": sys.executable,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 (fixed arguments)
                ["git", *arguments],  # noqa: S607 (git is found on the user's PATH on purpose)
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(git("status", "--porcelain"))}


def _gpus() -> list[str]:
    # Only what is already imported: a listing or a light recipe must not pay for torch.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
