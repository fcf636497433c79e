import errno
import json
import time
from pathlib import Path

import pytest

from subl.artifacts import Dataset, Findings, Measure, ModelRef, Student, Table, Teacher
from subl.errors import StoreError
from subl.run.caching import stored, unneeded
from subl.run.store import WORK, Metric, Store, metric_line, writing
from tests import processes


def publish(store: Store, name: str, text: str = "hello") -> None:
    entry = store.entry(name)
    entry.begin()
    (entry.folder / "file.txt").write_text(text)
    entry.publish(Findings({"share": Measure(0.5)}), {"stage": "probe"})


def test_an_entry_is_complete_only_after_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.entry("abc")
    entry.begin()
    (entry.folder / "file.txt").write_text("half")
    assert not store.cached("abc", pytest.fail)
    publish(store, "abc")
    assert store.cached("abc", pytest.fail)
    assert not (entry.folder / WORK).exists()


def test_beginning_again_keeps_the_work_folder_and_drops_the_rest(tmp_path: Path) -> None:
    entry = Store(tmp_path).entry("abc")
    entry.begin()
    (entry.work / "checkpoint").write_text("kept")
    (entry.folder / "half").write_text("dropped")
    entry.begin()
    assert (entry.work / "checkpoint").read_text() == "kept"
    assert not (entry.folder / "half").exists()


def test_what_stages_share_is_made_once_and_whole(tmp_path: Path) -> None:
    said: list[str] = []

    def shared(text: str, key: str = "a", *, broken: bool = False) -> str:
        def make(folder: Path) -> None:
            assert not (folder / "file.txt").exists()
            (folder / "file.txt").write_text(text)
            if broken:
                raise KeyboardInterrupt

        # A store of its own: what another has found sound is not asked again.
        folder = Store(tmp_path).shared({"of": key}, make, plugin="shd", say=said.append, warn=said.append)
        return (folder / "file.txt").read_text()

    with pytest.raises(KeyboardInterrupt):
        shared("half", broken=True)
    assert shared("whole") == "whole"
    assert shared("again") == "whole"
    assert shared("other", "b") == "other"
    assert said == []
    found = stored(tmp_path)
    assert {(one.name, one.plugin, one.state, one.runs) for one in found} == {("shared", "shd", "complete", ())}
    assert unneeded(found) == found
    (next(one for one in found if one.key["of"] == "a").folder / "file.txt").write_text("whale")
    assert shared("anew") == "anew"
    assert "has other content than was written" in said[0]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"file.txt": 3}}'), "malformed"),
        (lambda folder: (folder / "file.txt").write_text("jello"), "other content"),
        (lambda folder: (folder / "file.txt").write_text("hell"), "4 bytes instead of 5"),
        (lambda folder: (folder / "file.txt").unlink(), "is missing"),
        (lambda folder: (folder / "artifact.json").write_text("{}"), "instead of"),
    ],
    ids=["cut manifest", "list manifest", "odd manifest", "changed", "shorter", "gone", "artifact"],
)
def test_a_damaged_entry_is_set_aside_with_a_warning_and_made_again(tmp_path: Path, harm, said: str) -> None:  # type: ignore[no-untyped-def]
    publish(Store(tmp_path), "abc")
    harm(tmp_path / "store/abc")
    warnings: list[str] = []
    store = Store(tmp_path)
    assert not store.cached("abc", warnings.append)
    assert said in warnings[0]
    assert "computing it again" in warnings[0]
    assert (tmp_path / "store/abc.damaged-1").is_dir()
    publish(store, "abc")
    assert store.cached("abc", pytest.fail)


def test_metrics_logged_twice_for_a_step_count_once_and_a_cut_line_is_ignored(tmp_path: Path) -> None:
    entry = Store(tmp_path).entry("abc")
    entry.begin()
    lines = [metric_line(Metric("loss", float(v), s)) for v, s in ((3, 1), (2, 2), (9, 2), (1, None))]
    (entry.work / "metrics.jsonl").write_text("".join(lines) + '{"name": "lo')
    entry.publish(Findings(), {})
    assert entry.metrics() == [Metric("loss", 1.0, None), Metric("loss", 3.0, 1), Metric("loss", 9.0, 2)]


def test_artifacts_survive_moving_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "one")
    entry = store.entry("abc")
    entry.begin()
    (entry.folder / "weights").mkdir()
    outside = tmp_path / "hub"
    base = ModelRef("micro", {"a": [1, 2]}, "id", path=entry.folder / "weights")
    hub = ModelRef("hub", {}, "id2", path=outside, adapters=(entry.folder / "weights",), system="")
    entry.publish(Teacher(base, hub, updates=3), {})
    (tmp_path / "one").rename(tmp_path / "two")
    teacher = Store(tmp_path / "two").entry("abc").artifact()
    assert teacher.model.path == tmp_path / "two/store/abc/weights"
    assert teacher.base.path == outside
    assert teacher.base.adapters == (tmp_path / "two/store/abc/weights",)
    assert teacher.base.system == ""
    assert teacher.updates == 3


@pytest.mark.parametrize(
    "artifact",
    [
        Findings({"a": Measure(1.0, 0.5, 1.5, 3, "95 %")}, {"t": Table(("x",), (("y",),))}, ("r",), ("p",)),
        Findings({"a": Measure(float("nan"))}),
        Student(ModelRef("m", {}, "s"), ModelRef("m", {}, "b"), 7),
    ],
    ids=["findings", "nan", "student"],
)
def test_artifacts_come_back_as_they_went(tmp_path: Path, artifact: Findings | Student) -> None:
    entry = Store(tmp_path).entry("abc")
    entry.begin()
    entry.publish(artifact, {})
    assert repr(entry.artifact()) == repr(artifact)


def test_a_dataset_is_read_lazily_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"index": 0, "prompt": "a", "completion": "b"}\nnot json\n')
    rows = iter(Dataset(path, rows=2, seen=2))
    assert next(rows).completion == "b"
    with pytest.raises(Exception, match=r"rows\.jsonl:2: not a row"):
        next(rows)


def test_forcing_forgets_the_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "abc")
    assert store.cached("abc", pytest.fail)
    store.invalidate("abc")
    assert not store.cached("abc", pytest.fail)


def _hold(home: Path, held: Path, asked: Path) -> None:
    with Store(home).locked("abc", lambda _: None):
        held.touch()
        while not asked.exists():
            time.sleep(0.01)
        publish(Store(home), "abc")


def test_a_second_process_waits_for_the_first_and_finds_its_result(tmp_path: Path) -> None:
    held, asked = tmp_path / "held", tmp_path / "asked"
    other = processes.start(_hold, tmp_path, held, asked, cwd=tmp_path)
    while not held.exists():
        assert other.alive()
        time.sleep(0.01)
    waited: list[str] = []

    def wait(message: str) -> None:
        waited.append(message)
        asked.touch()

    store = Store(tmp_path)
    with store.locked("abc", wait):
        assert store.cached("abc", pytest.fail)
    assert other.wait().returncode == 0
    assert "waiting" in waited[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_failures_to_write_say_what_to_do(code: int, said: str) -> None:
    with pytest.raises(StoreError, match=said), writing(Path("/somewhere")):
        raise OSError(code, "no", "/somewhere/file")


def test_a_store_path_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="is a file"), Store(tmp_path).locked("abc", pytest.fail):
        pass


def test_manifests_name_every_file(tmp_path: Path) -> None:
    publish(Store(tmp_path), "abc")
    manifest = json.loads((tmp_path / "store/abc/manifest.json").read_text())
    assert set(manifest["files"]) == {"artifact.json", "file.txt"}
