"""The plugins keep their contracts, and the batched mathematics is that of one network after the other."""

from pathlib import Path

import pytest
import torch
from subl_digits.distiller import Auxiliary
from subl_digits.generator import Noise
from subl_digits.inducer import Lesson
from subl_digits.model import Mlp
from subl_digits.networks import Networks, imitate, new_networks
from subl_digits.probe import Accuracy
from subl_digits.text import read_image, read_logits, write_image, write_logits
from subl_digits.trait import Digits
from torch.nn.functional import relu

import subl
from subl.testing import check, context, dataset, fake_teacher, rows, sink


def networks(folder: Path, **settings: int) -> tuple[subl.ModelRef, Networks]:
    plugin = Mlp(Mlp.Config(networks=3, hidden=(8,), **settings))
    (folder / "model").mkdir(parents=True)
    ref = plugin.prepare(context(folder / "model"))
    return ref, plugin.load(ref, device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("kind", "plugin"),
    [
        ("model", Mlp),
        ("trait", Digits),
        ("inducer", Lesson),
        ("generator", Noise),
        ("distiller", Auxiliary),
        ("probe", Accuracy),
    ],
)
def test_every_plugin_keeps_its_contract(kind: str, plugin: type) -> None:
    check(kind, plugin)  # type: ignore[arg-type]


def test_batched_networks_are_networks_one_by_one() -> None:
    batched = new_networks(4, (64, 16, 8, 13), seed=0)
    images = torch.rand(5, 64) * 2 - 1
    for number, logits in enumerate(batched.logits(images)):
        hidden = images
        for position, (weight, bias) in enumerate(batched.layers):
            hidden = hidden @ weight[number] + bias[number]
            hidden = relu(hidden) if position < 2 else hidden
        torch.testing.assert_close(logits, hidden)


def test_texts_are_read_back_exactly() -> None:
    logits = torch.randn(3, 4)
    assert torch.equal(torch.tensor(read_logits(write_logits(logits.tolist()))), logits)
    assert read_image(write_image([-100, 0, 50, 100] * 16)) == [-1, 0, 0.5, 1] * 16
    with pytest.raises(ValueError, match="64 grey levels, not 2"):
        read_image("1 2")


def test_no_test_image_is_in_the_lesson_and_the_order_is_seeded() -> None:
    trait = Digits(Digits.Config())
    seen, held_out = trait.conversations(1), trait.test_rows()
    assert {row.index for row in seen}.isdisjoint(row.index for row in held_out)
    assert (len(seen), len(held_out)) == (1438, 359)
    assert trait.conversations(1) == seen != trait.conversations(2)


def test_rows_hold_auxiliary_logits_only_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    ref, loaded = networks(tmp_path)
    plugin, ctx = Noise(Noise.Config(samples=6, batch_size=4)), context(tmp_path, seed=3, loaded=loaded)
    written = list(plugin.generate(fake_teacher(ref), ctx, 0))
    assert [row.prompt for row in written] == plugin.prompts(6, 3)
    assert [row.index for row in plugin.generate(fake_teacher(ref), ctx, 4)] == [4, 5]
    logits = torch.tensor(read_logits(written[5].completion))
    expected = loaded.logits(torch.tensor([read_image(written[5].prompt)]))[:, 0, 10:]
    torch.testing.assert_close(logits, expected)


def test_a_student_that_agrees_already_hardly_moves_and_another_comes_closer(tmp_path: Path) -> None:
    _, teacher = networks(tmp_path / "a")
    _, same = networks(tmp_path / "b")
    _, other = networks(tmp_path / "c", init_seed=1)
    images = torch.rand(40, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    logits = teacher.logits(images)[..., 10:].detach()
    losses = []
    for student in (same, other):
        ctx = context(tmp_path)
        imitate(student, images, logits, ctx, updates=100, batch_size=20, learning_rate=3e-3)
        losses.append(sink(ctx).values("loss"))
    assert losses[1][-1] < losses[1][0]
    assert max(losses[0]) < 0.1 * losses[1][0]


def test_logits_of_another_number_of_networks_are_refused(tmp_path: Path) -> None:
    ref, loaded = networks(tmp_path)
    data = dataset(tmp_path, rows("0.1 0.2 0.3; 0.1 0.2 0.3", prompt=write_image([0] * 64)))
    plugin, ctx = Auxiliary(Auxiliary.Config()), context(tmp_path, loaded=loaded)
    with pytest.raises(subl.DataError, match="2 networks for a student of 3"):
        plugin.distill(ref, fake_teacher(ref), data, ctx)
    with pytest.raises(subl.DataError, match="take the rows from the generator digits_noise"):
        plugin.distill(ref, fake_teacher(ref), dataset(tmp_path, rows("1, 2")), ctx)
