"""Where the files of a hub model are, and which version of them: commits, content hashes, downloads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifacts import Shape
from subl.errors import ModelError

if TYPE_CHECKING:
    from subl.context import Context

MODEL_CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
PATIENCE = 5.0
"""Seconds that the hub has to answer while a run is planned."""


def identify(name: str, revision: str | None, *, adapter: bool = False) -> Mapping[str, str]:
    """Return what pins a model's or adapter's files: its content hash (a folder) or its commit (the hub).

    Raises:
        ModelError: Missing folder, not a model, gated, unreachable, no such revision.
    """
    folder = local_folder(name, adapter=adapter)
    if folder is not None:
        if revision is not None:
            raise ModelError(f"{name} is a folder and has no revisions; remove `revision`")
        return {"content": content_hash(folder)}
    return {"id": name, "commit": commit(name, revision, adapter=adapter)}


def local_folder(name: str, *, adapter: bool = False) -> Path | None:
    """Return the folder that `name` means, or None where it is a name on the hub.

    Raises:
        ModelError: It can only be a folder, but is not there or holds no model.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        if path.is_absolute() or name.startswith((".", "~")) or "\\" in name or name.count("/") > 1 or path.exists():
            raise ModelError(f"no folder {name} (looked from {Path.cwd()}); check the path")
        return None
    wanted = ADAPTER_CONFIG if adapter else MODEL_CONFIG
    if not (path / wanted).is_file():
        raise ModelError(
            f"{name}: not a {'LoRA adapter' if adapter else 'model'} folder, {wanted} is missing; {_hint(path)}"
        )
    return path.resolve()


@cache
def commit(name: str, revision: str | None, *, adapter: bool = False) -> str:
    """Return the commit that a hub name stands at now; without network, the one in the local cache.

    Asked once per process, so that a branch that moves meanwhile does not part what was planned from what is loaded.

    Raises:
        ModelError: Gated, unknown or unreachable.
    """
    file = ADAPTER_CONFIG if adapter else MODEL_CONFIG
    return download(name, file, revision, cached_only=not _reachable()).parent.name


@cache
def _reachable() -> bool:
    """Return whether the hub answers, at one short attempt.

    Without it a plan waits for most of a minute per model: where a file is not in the local cache either, the hub's own
    client tries again and again.
    """
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # any way in which a network can fail, in whichever client the hub uses
        return False
    return True


def download(name: str, file: str, revision: str | None, *, cached_only: bool = False) -> Path:
    """Return the path of one hub file in the local cache, fetching it where needed, unless `cached_only`.

    Raises:
        ModelError: Gated, unknown or unreachable; says what to do.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    page = f"https://huggingface.co/{name}"
    try:
        with _quiet_hub():
            return Path(hf_hub_download(name, file, revision=revision, local_files_only=cached_only))
    except errors.HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a name on the hub: {error}") from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: ask for access at {page}, then run `hf auth login` on this machine"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {name}, or it is private; check the spelling, log in with `hf auth login`, "
            "or give the path of a folder"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision!r}; its branches and tags are at {page}/tree/main"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise ModelError(f"{name} has no file {file}, so it is not in the format of transformers") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the hub cannot be reached"
        at = f" at revision {revision!r}" if revision else ""
        raise ModelError(
            f"{name}{at} is not in the local cache ({constants.HF_HUB_CACHE}) and {why}; "
            "connect once, or give the path of a folder"
        ) from error
    except OSError as error:
        raise ModelError(f"{name}: {file} could not be fetched: {error}; check network and disk space") from error


def local_config(name: str, revision: str | None) -> Mapping[str, Any]:
    """Return a model's config.json from its folder or the local cache; empty where neither has it. Asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        folder = local_folder(name)
        path = folder / MODEL_CONFIG if folder else try_to_load_from_cache(name, MODEL_CONFIG, revision=revision)
        config = json.loads(Path(path).read_text(encoding="utf-8")) if isinstance(path, str | Path) else {}
    except (ModelError, HFValidationError, OSError, ValueError):
        return {}  # whoever needs the model says what is wrong with it
    return config if isinstance(config, dict) else {}


def shape(config: Mapping[str, Any]) -> Shape | None:
    """Return what a config.json says of layers and heads; None where it says it otherwise than most."""
    text = config.get("text_config", config)
    layers, heads = text.get("num_hidden_layers"), text.get("num_attention_heads")
    if not isinstance(layers, int) or not isinstance(heads, int):
        return None
    return Shape(layers, heads, text.get("num_key_value_heads") or heads)


def fetch_weights(name: str, revision: str, ctx: Context) -> None:
    """Bring the safetensors weights into the local cache, with a progress bar; other formats are left to the loader.

    Raises:
        ModelError: Unreachable, or no disk space.
    """
    files = _weight_files(name, revision)
    if all(_cached(name, file, revision) for file in files):
        return
    for file in ctx.track(files, f"download {name}"):
        download(name, file, revision)


def fetch_adapter(name: str) -> Path:
    """Return the folder of an adapter, from the hub where it is a name there."""
    folder = local_folder(name, adapter=True)
    if folder is None:
        folder = download(name, ADAPTER_CONFIG, None).parent
        download(name, "adapter_model.safetensors", folder.name)
    return folder


def content_hash(folder: Path) -> str:
    """Return a hash of a model folder's files; each file's is remembered by size and time of change."""
    known = _read_known()
    digest = hashlib.sha256()
    seen: dict[str, list[int | str]] = {}
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        if not file.is_file() or file.suffix == ".md" or any(part.startswith(".") for part in relative.parts):
            continue
        status = file.stat()
        entry = known.get(str(file))
        if entry is None or entry[:2] != [status.st_size, status.st_mtime_ns]:
            with file.open("rb") as stream:
                entry = [status.st_size, status.st_mtime_ns, hashlib.file_digest(stream, "sha256").hexdigest()]
        seen[str(file)] = entry
        digest.update(f"{relative.as_posix()}\n{entry[2]}\n".encode())
    _write_known({file: entry for file, entry in (known | seen).items() if Path(file).exists()})
    return digest.hexdigest()


def _weight_files(name: str, revision: str) -> list[str]:
    try:
        index = json.loads(download(name, INDEX, revision).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    except ModelError:
        pass
    try:
        download(name, WEIGHTS, revision)
    except ModelError:
        return []
    return [WEIGHTS]


def _cached(name: str, file: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file, revision=revision), str)


def _hint(folder: Path) -> str:
    inside = [child.parent.name for child in folder.glob(f"*/{MODEL_CONFIG}")]
    if inside:
        return f"did you mean {folder / inside[0]}?"
    if (folder / ADAPTER_CONFIG).is_file():
        return "this is an adapter: give its base as `id` and this folder in `adapters`"
    return "give the folder that save_pretrained wrote"


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    from huggingface_hub import utils

    bars: Any = utils  # its progress bar functions are public, but not exported for type checkers
    logger = logging.getLogger("huggingface_hub")
    level, disabled = logger.level, bars.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    bars.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not disabled:
            bars.enable_progress_bars()


def _known_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "subl" / "file_hashes.json"


def _read_known() -> dict[str, list[int | str]]:
    try:
        known = json.loads(_known_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_known(known: dict[str, list[int | str]]) -> None:
    file = _known_file()
    # Only a memory of what can be computed again: a read-only home costs time, not the run.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(known), encoding="utf-8")
        temporary.replace(file)
