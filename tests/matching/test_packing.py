"""Maps and distributions in few bits, and rows of arrays in files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from subl.matching.packing import Bits, pack_distributions, pack_maps, unpack_maps
from subl.matching.row_files import Arrays, RowFiles, RowWriter


@pytest.mark.parametrize(("bits", "largest", "divergence"), [(8, 2e-3, 1.5e-4), (16, 8e-6, 2.5e-9)])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0, 8.0])
def test_rows_lose_no_more_than_was_counted(bits: Bits, largest: float, divergence: float, sharpness: float) -> None:
    torch.manual_seed(0)
    scores = sharpness * torch.randn(2, 3, 40, 40, dtype=torch.float64)
    maps = scores.masked_fill(~torch.ones(40, 40, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    levels, masses = pack_maps(maps, bits)
    assert levels.element_size() * 8 == bits
    found = unpack_maps(levels, masses).double()
    assert float((found - maps).abs().max()) < largest
    assert torch.equal(found.triu(1), torch.zeros_like(found))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 40, dtype=torch.float64), atol=1e-6, rtol=0)
    found = found / found.sum(-1, keepdim=True)
    lost = torch.special.xlogy(found, found / maps.clamp_min(1e-300)).sum(-1)
    assert float(lost.max()) < divergence


def test_a_sink_leaves_the_other_keys_what_they_have() -> None:
    rest = torch.rand(199, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    row = torch.cat((torch.tensor([0.9], dtype=torch.float64), 0.1 * rest / rest.sum()))
    found = unpack_maps(*pack_maps(row, 8)).double()
    torch.testing.assert_close(found[1:], row[1:], atol=1.5e-4, rtol=0)
    # Levels of the entries themselves would all be 0.
    assert float((row[1:] / row[0] * 255).round().max()) == 0


def test_a_row_s_mass_on_the_keys_that_count_stays() -> None:
    maps = torch.tensor([[0.02, 0.01, 0.0], [0.0, 0.0, 0.0]])
    found = unpack_maps(*pack_maps(maps, 8))
    torch.testing.assert_close(found, maps, atol=1e-4, rtol=0)
    assert float(found[0].sum()) == pytest.approx(0.03, rel=1e-6)


def test_distributions_become_logarithms() -> None:
    logits = torch.tensor([[300.0, 301.0, 250.0]])
    packed = pack_distributions({"logits": logits, "tokens": logits})
    assert packed["logits"].dtype == torch.float16
    torch.testing.assert_close(packed["logits"].float().exp(), logits.softmax(-1), rtol=4e-3, atol=1e-7)
    assert packed["tokens"] is logits


def test_rows_of_different_sizes_come_back(tmp_path: Path) -> None:
    rows: list[Arrays] = [
        {"a": np.arange(size * 2, dtype=np.uint16).reshape(2, size), "b": np.full(size, 0.5, np.float32)}
        for size in (3, 0, 5)
    ]
    with RowWriter(tmp_path) as writer:
        assert [writer.write(row) for row in rows] == [24, 0, 40]
    files = RowFiles(tmp_path)
    for number in (2, 0, 1):
        for name, values in rows[number].items():
            assert files[number][name].dtype == values.dtype
            assert np.array_equal(files[number][name], values)


def test_an_index_is_written_only_at_a_good_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RowWriter(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError):
        RowFiles(tmp_path)
