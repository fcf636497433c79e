from pathlib import Path

import pytest

from subl.artifacts import Row
from subl.run.shards import Shards


def rows(start: int, stop: int) -> list[Row]:
    return [Row(i, f"p{i}", f"c{i}") for i in range(start, stop)]


def fill(shards: Shards, start: int, stop: int) -> None:
    assert list(shards.append(rows(start, stop), start)) == rows(start, stop)


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    shards = Shards(tmp_path, size=4)
    fill(shards, 0, 10)
    assert list(shards.rows()) == rows(0, 10)


def test_generation_continues_after_the_last_whole_shard(tmp_path: Path) -> None:
    fill(Shards(tmp_path, size=4), 0, 10)
    shards = Shards(tmp_path, size=4)
    assert shards.resume(pytest.fail) == 8
    fill(shards, 8, 12)
    assert list(shards.rows()) == rows(0, 12)


def test_rows_are_yielded_only_once_their_shard_is_on_disk(tmp_path: Path) -> None:
    shards = Shards(tmp_path, size=4)
    stream = shards.append(iter(rows(0, 8)), 0)
    next(stream)
    assert len(shards.paths()) == 1


@pytest.mark.parametrize("harm", ["cut", "binary", "gone"])
def test_a_damaged_shard_is_made_again_with_everything_after_it(tmp_path: Path, harm: str) -> None:
    fill(Shards(tmp_path, size=4), 0, 16)
    victim = sorted(tmp_path.glob("*.jsonl"))[1]
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-9] if harm == "cut" else b"\xff\xfe\x00")
    warnings: list[str] = []
    shards = Shards(tmp_path, size=4)
    assert shards.resume(warnings.append) == 4
    assert "rows from 4 on are generated again" in warnings[0]
    fill(shards, 4, 16)
    assert list(shards.rows()) == rows(0, 16)


def test_a_partial_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "000000.123.partial").write_text("half")
    assert Shards(tmp_path, size=4).resume(pytest.fail) == 0
