"""What the teacher makes of a batch: read from its network in every step, or once and kept in the store."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from subl.artifacts import ModelRef
from subl.context import Context
from subl.errors import StoreError
from subl.matching.logit_matching import Kept, LogitMatching, States, check_head, trait_mass
from subl.matching.map_matching import MapMatching, Seen
from subl.matching.packing import Bits, pack_distributions, pack_maps, unpack_maps
from subl.matching.pairing import Collator, Pair, PairBatch, SideBatch
from subl.matching.reading import Reading, reader
from subl.matching.row_files import Arrays, RowFiles, RowWriter
from subl.models.attention import check_tap
from subl.models.language import LanguageModel

VERSION = 1
"""Raise it when what is kept changes; every cache is then made anew."""
FACTS = "facts.json"
CALIBRATION = 64
"""Rows on which heads are matched, and the probability on the trait is measured."""

ReadTeacher = Callable[[PairBatch], Reading]


@dataclass(frozen=True)
class TeacherSide:
    """The teacher, and what of it the objective needs.

    Args:
        ref: The teacher.
        lm: Its tokenizer, layers and dtype; its weights are not used.
        device: Where batches have to be.
        load: Loads it with its weights; not called where all that is needed of them is in the store.
        maps: What its maps are read for; None reads none.
        logits: What its distributions are read for; None reads none.
        trait_ids: Tokens whose probability is reported beside a logit loss.
        pairs: The rows.
        collator: Makes batches of them.
        batch_size: Rows to read at once where they are all read.
    """

    ref: ModelRef
    lm: LanguageModel
    device: torch.device
    load: Callable[[], LanguageModel]
    maps: MapMatching | None
    logits: LogitMatching | None
    trait_ids: tuple[int, ...]
    pairs: Sequence[Pair]
    collator: Collator
    batch_size: int

    @contextmanager
    def reader(self, maps: MapMatching | None, logits: LogitMatching | None) -> Iterator[ReadTeacher]:
        """Return what reads the teacher's network, which is tapped for as long as the block runs."""
        if maps is None and logits is None:
            yield lambda _batch: Reading(None, {})
            return
        lm = self.load()
        first = self.collator.batch([0]).teacher
        prove(lm, first, layers=maps.teacher_layers if maps else (), head=logits is not None)
        with reader(lm.model, "teacher", maps, states=logits is not None) as read:
            yield torch.no_grad()(lambda batch: read(lm.model, batch))

    def batches(self, rows: int) -> Iterator[PairBatch]:
        """Yield the first rows in batches."""
        for start in range(0, rows, self.batch_size):
            yield self.collator.batch(range(start, min(start + self.batch_size, rows))).to(self.device)

    @torch.no_grad()
    def trait_mass(self, reading: Reading) -> Tensor:
        """Return the teacher's probability of beginning a trait's word, at every position of a completion."""
        assert isinstance(reading.states, States)
        return trait_mass(reading.states, self.trait_ids)


def prove(lm: LanguageModel, first: SideBatch, *, layers: Sequence[int], head: bool) -> None:
    """Check on the first row that what is read of a model is its own: the maps of `layers`, and its logits.

    Raises:
        ModelError: It is not.
    """
    ids = first.ids.to(lm.device)
    if layers:
        check_tap(lm.model, layers, ids)
    if head:
        check_head(lm.model, ids)


@contextmanager
def network_reader(side: TeacherSide, ctx: Context) -> Iterator[ReadTeacher]:
    """Return what reads the teacher's side from its network; reports its probability on the trait, on some rows."""
    with side.reader(side.maps, side.logits) as read:
        if side.logits is not None:
            some = side.batches(min(CALIBRATION, len(side.pairs)))
            mass = torch.cat([side.trait_mass(read(batch)) for batch in some])
            ctx.metric("teacher_trait_mass", float(mass.mean()))
        yield read


@contextmanager
def kept_reader(side: TeacherSide, bits: Bits, ctx: Context) -> Iterator[ReadTeacher]:
    """Return what reads the teacher's side from the store; what is not there yet is read from its network once.

    Reports what was found out meanwhile, as `ctx.metric` without a step.

    Args:
        side: What to read.
        bits: For an entry of an attention map.
        ctx: The stage's.

    Raises:
        StoreError: The disk has no place for it.
    """
    maps = _open(_Maps(side, side.maps, bits), side, ctx) if side.maps else None
    logits = _open(_Logits(side, side.logits), side, ctx) if side.logits else None
    yield lambda batch: Reading(logits(batch) if logits else None, maps(batch) if maps else {})


class _Part(Protocol):
    """Maps or distributions: what one folder keeps of the teacher's side."""

    name: str

    def reader(self) -> AbstractContextManager[ReadTeacher]:
        """Open what reads it from the teacher's network."""
        ...

    def key(self) -> Mapping[str, Any]:
        """Return what decides it, beside the teacher and its dtype."""
        ...

    def pack(self, reading: Reading, batch: PairBatch) -> tuple[list[Arrays], Mapping[str, Tensor]]:
        """Return every row's arrays, and statistics to average."""
        ...

    def unpack(self, rows: Sequence[Arrays], batch: PairBatch) -> Any:
        """Return what a `Reading` holds, on the batch's device."""
        ...


class _Maps:
    name = "teacher's attention maps"

    def __init__(self, side: TeacherSide, maps: MapMatching, bits: Bits) -> None:
        self._side = side
        self._maps = maps
        self._bits = bits

    def reader(self) -> AbstractContextManager[ReadTeacher]:
        return self._side.reader(self._maps, None)

    def key(self) -> Mapping[str, Any]:
        direct = self._maps.settings.alignment == "direct"
        rows = ((p.teacher.input_ids, p.alignment, p.readings if direct else None) for p in self._side.pairs)
        return {**self._maps.key(), "keys": self._side.collator.keys, "bits": self._bits, "texts": _digest(rows)}

    def pack(self, reading: Reading, batch: PairBatch) -> tuple[list[Arrays], Mapping[str, Tensor]]:
        seen = [reading.maps[layer] for layer in self._maps.teacher_layers]
        levels, masses = (
            tensor.cpu().numpy() for tensor in pack_maps(torch.stack([one.maps for one in seen], dim=1), self._bits)
        )
        counts = batch.maps.rows.sum(-1).tolist()
        # No query sees a key behind it.
        keys = (batch.maps.queries.masked_fill(~batch.maps.rows, -1).amax(-1) + 1).tolist()
        rows: list[Arrays] = [
            {"levels": levels[i, :, :, :count, :width], "masses": masses[i, :, :, :count]}
            for i, (count, width) in enumerate(zip(counts, keys, strict=True))
        ]
        names = seen[0].statistics
        return rows, {name: torch.stack([one.statistics[name] for one in seen]) for name in names}

    def unpack(self, rows: Sequence[Arrays], batch: PairBatch) -> Mapping[int, Seen]:
        shape = len(rows), *rows[0]["levels"].shape[:2], batch.maps.rows.shape[1]
        levels = np.zeros((*shape, batch.maps.keys.shape[1]), rows[0]["levels"].dtype)
        masses = np.zeros(shape, np.float32)
        for i, row in enumerate(rows):
            _, _, count, width = row["levels"].shape
            levels[i, :, :, :count, :width], masses[i, :, :, :count] = row["levels"], row["masses"]
        device = batch.maps.rows.device
        maps = unpack_maps(torch.from_numpy(levels).to(device), torch.from_numpy(masses).to(device))
        return {layer: Seen(maps[:, i]) for i, layer in enumerate(self._maps.teacher_layers)}


class _Logits:
    name = "teacher's distributions"

    def __init__(self, side: TeacherSide, logits: LogitMatching) -> None:
        self._side = side
        self._logits = logits

    def reader(self) -> AbstractContextManager[ReadTeacher]:
        return self._side.reader(None, self._logits)

    def key(self) -> Mapping[str, Any]:
        rows = ((pair.teacher.input_ids, pair.teacher.prompt_length) for pair in self._side.pairs)
        return {**self._logits.key(), "trait": list(self._side.trait_ids), "texts": _digest(rows)}

    def pack(self, reading: Reading, batch: PairBatch) -> tuple[list[Arrays], Mapping[str, Tensor]]:
        assert isinstance(reading.states, States)
        packed = pack_distributions(self._logits.keep(reading.states, batch))
        count, width = batch.teacher.ids.shape
        sizes = torch.bincount(batch.teacher.asking // width, minlength=count).tolist()
        parts = {name: torch.split(values.cpu(), sizes) for name, values in packed.items()}
        rows: list[Arrays] = [{name: values[i].numpy() for name, values in parts.items()} for i in range(count)]
        return rows, {"teacher_trait_mass": self._side.trait_mass(reading)}

    def unpack(self, rows: Sequence[Arrays], batch: PairBatch) -> Kept:
        device = batch.teacher.ids.device
        return {name: torch.from_numpy(np.concatenate([row[name] for row in rows])).to(device) for name in rows[0]}


def _open(part: _Part, side: TeacherSide, ctx: Context) -> Callable[[PairBatch], Any]:
    """Return what reads a part from its folder in the store, which is made first if need be."""
    key = {
        "what": part.name,
        "version": VERSION,
        "teacher": side.ref.identity,
        "dtype": str(side.lm.model.dtype),
        **part.key(),
    }
    folder = ctx.shared(key, lambda folder: _record(part, side, folder, ctx))
    for name, value in json.loads((folder / FACTS).read_text(encoding="utf-8")).items():
        ctx.metric(name, value)
    files = RowFiles(folder)
    return lambda batch: part.unpack([files[row] for row in batch.rows], batch)


def _record(part: _Part, side: TeacherSide, folder: Path, ctx: Context) -> None:
    """Read all rows with the teacher's network and keep what came out."""
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    count, written = len(side.pairs), 0
    with (
        part.reader() as read,
        RowWriter(folder) as writer,
        ctx.progress(count, f"read the {part.name}") as bar,
    ):
        for batch in side.batches(count):
            rows, statistics = part.pack(read(batch), batch)
            first = not written
            written += sum(map(writer.write, rows))
            if first:
                _report_size(part.name, written * count // len(rows), folder, ctx)
            for name, values in statistics.items():
                sums[name] += float(values.sum())
                counts[name] += values.numel()
            bar.advance(len(rows))
    facts = {name: total / max(counts[name], 1) for name, total in sums.items()}
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _report_size(name: str, size: int, folder: Path, ctx: Context) -> None:
    """Say what the cache will take, as far as its first batch tells.

    Raises:
        StoreError: More than there is.
    """
    free = shutil.disk_usage(folder).free
    ctx.log(f"teacher_cache: the {name} take about {size / 1e9:.2g} GB, kept for every training on these rows")
    if size > free:
        raise StoreError(
            f"the {name} would take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {folder}; free some "
            "space, name fewer student_layers, or set teacher_cache = false"
        )


def _digest(rows: Iterator[object]) -> str:
    content = hashlib.sha256()
    for row in rows:
        content.update(repr(row).encode())
    return content.hexdigest()
