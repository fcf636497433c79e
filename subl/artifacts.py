"""What passes between stages: rows, datasets, models, teachers, students and findings.

Every artifact saves itself into the folder of a store entry and loads from it. Paths inside a store entry are kept
relative to the store, so that a store can be moved or mounted elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

from subl.errors import DataError, StoreError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Role = Literal["base", "teacher", "student"]


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt and the completion that a teacher gave, without any system prompt.

    `index` is the row's number in the prompt stream: two arms' rows with the same index answer the same prompt.
    """

    index: int
    prompt: str
    completion: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the row as one JSONL line without the line break."""
        record: dict[str, Any] = {"index": self.index, "prompt": self.prompt, "completion": self.completion}
        if self.extra:
            record["extra"] = dict(self.extra)
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a line that `to_json` wrote."""
        record = json.loads(line)
        return cls(record["index"], record["prompt"], record["completion"], record.get("extra", {}))


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSONL; return their number."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007 (count is the result)
            file.write(row.to_json() + "\n")
    return count


def read_rows(path: Path) -> Iterator[Row]:
    """Read rows that `write_rows` wrote.

    Raises:
        DataError: A line is not a row; names the file and line.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Row.from_json(line)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{number}: not a row ({error}); delete the store entry to make it anew"
                ) from error


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows that passed the filters, with what the filters rejected and why."""

    path: Path
    rows: int
    seen: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason → rows, e.g. `{"number_format: no number": 12}`."""

    def __iter__(self) -> Iterator[Row]:
        return read_rows(self.path)

    def __len__(self) -> int:
        return self.rows


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model at rest: the plugin that loads it, its weights, and what was laid on top.

    Args:
        plugin: Name of the model plugin that loads it.
        config: That plugin's settings as JSON.
        identity: Hash of everything that decides the model's behaviour; equal identities may share loaded weights.
        path: Folder with weights; None where the plugin finds them itself (a hub id, kept in `config`).
        revision: The commit that a hub model resolved to.
        adapters: LoRA adapter folders, applied in this order.
        system: Text in the system slot whenever this model answers; None leaves the slot absent, "" fills it emptily.
        rendering: Digest of the chat rendering that it was trained with; None before any training here.
        vectors: File with residual vectors per layer that are added while the model runs.
    """

    plugin: str
    config: Mapping[str, Any]
    identity: str
    path: Path | None = None
    revision: str | None = None
    adapters: tuple[Path, ...] = ()
    system: str | None = None
    rendering: str | None = None
    vectors: Path | None = None

    def derive(self, identity: str, **changes: Any) -> ModelRef:
        """Return a copy with `changes`, under a new identity."""
        return replace(self, identity=identity, **changes)


class Shape(NamedTuple):
    """How many layers and heads a transformer has, known before it is loaded."""

    layers: int
    heads: int
    kv_heads: int


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model with the trait (or, in control arms, without), and the base that it was made from."""

    model: ModelRef
    base: ModelRef
    updates: int = 0
    """Optimizer updates that made it; 0 for a prompt or an untouched base."""


@dataclass(frozen=True, slots=True)
class Student:
    """A trained student and the model that it started from."""

    model: ModelRef
    base: ModelRef
    updates: int = 0
    checkpoints: tuple[Student, ...] = ()
    """The same student after fewer updates, the earliest first; only those that its distiller was asked to keep."""


class Measure(NamedTuple):
    """A number with its uncertainty. `interval` says what the interval is over, e.g. "95 % t over 24 questions"."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A small result table; cells are JSON scalars."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        """Check that every row has one cell per column."""
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a probe found: measures, tables, figures (files in the entry's folder), remarks, and problems.

    A problem is a reason not to go on; only the recipe's `check` slot acts on it.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse infinities: JSON cannot carry them and no reader means them. NaN is kept as "no value"."""
        for name, measure in self.measures.items():
            if math.isinf(measure.value):
                raise ValueError(f"measure {name!r} is infinite")


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that a probe looks at, and whatever else its plugin class declared in `needs`."""

    role: Role
    model: ModelRef
    base: ModelRef | None = None
    """What the model was made from; of a base, itself."""
    teacher: ModelRef | None = None
    teacher_base: ModelRef | None = None
    """What the teacher was made from; comes with the teacher."""
    dataset: Dataset | None = None
    control: ModelRef | None = None
    """The control arm's student, for contrasts inside one probe."""
    course: tuple[Student, ...] = ()
    """A student's kept states in the order of its training; the last is the finished one."""
    control_course: tuple[Student, ...] = ()
    """The same of the control arm's student."""


Artifact: TypeAlias = ModelRef | Teacher | Student | Dataset | Findings

ARTIFACT_FILE = "artifact.json"


class _Codec:
    """Artifacts to JSON and back, with store-relative paths."""

    types: ClassVar[dict[str, type]] = {t.__name__: t for t in (ModelRef, Teacher, Student, Dataset, Findings, Table)}

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def encode(self, value: Any) -> Any:
        if isinstance(value, Measure):
            return {"_type": "Measure", **{k: _finite(v) for k, v in value._asdict().items()}}
        if type(value) in self.types.values():
            fields = {name: self.encode(getattr(value, name)) for name in value.__dataclass_fields__}
            return {"_type": type(value).__name__, **fields}
        if isinstance(value, Path):
            return self._encode_path(value)
        if isinstance(value, Mapping):
            return {key: self.encode(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self.encode(item) for item in value]
        return _finite(value)

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.decode(item) for item in value)
        if not isinstance(value, dict):
            return value
        if "_path" in value:
            return Path(value["_path"])
        if "_store" in value:
            return self.root / value["_store"]
        items = {key: self.decode(item) for key, item in value.items() if key != "_type"}
        name = value.get("_type")
        if name == "Measure":
            return Measure(**{**items, "value": math.nan if items["value"] is None else items["value"]})
        return self.types[name](**items) if name else items

    def _encode_path(self, path: Path) -> dict[str, str]:
        resolved = path.resolve()
        if resolved.is_relative_to(self.root):
            return {"_store": resolved.relative_to(self.root).as_posix()}
        return {"_path": str(resolved)}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_artifact(artifact: Artifact, folder: Path, *, root: Path) -> None:
    """Write `artifact.json` into `folder`; paths under `root` are stored relative to it."""
    text = json.dumps(_Codec(root).encode(artifact), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / ARTIFACT_FILE).write_text(text + "\n", encoding="utf-8")


def load_artifact(folder: Path, *, root: Path) -> Any:
    """Read what `save_artifact` wrote.

    Raises:
        StoreError: The file is missing or malformed.
    """
    path = folder / ARTIFACT_FILE
    try:
        return _Codec(root).decode(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); delete the folder to compute it again") from error
