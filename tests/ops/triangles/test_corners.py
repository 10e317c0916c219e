"""Corner numbers: what is kept of triangles is right, and no longer kept than they are."""

import gc
import weakref

import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles import corners
from dreamlab.ops.triangles.corners import corner_numbers


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int16])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_numbers_are_the_same_in_32_bits_and_in_a_row(dtype, is_transposed):
    tri = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 0, 1]], dtype=dtype)
    tri = tri.t() if is_transposed else tri
    for _ in range(2):
        found = corner_numbers(tri, 4)
        assert found.dtype == torch.int32 and found.is_contiguous()
        assert found.tolist() == tri.tolist()


def test_triangles_are_looked_at_once(monkeypatch):
    calls = []
    find = corners._find
    monkeypatch.setattr(corners, "_find", lambda *a, **k: calls.append(1) or find(*a, **k))
    tri = torch.tensor([[0, 1, 2]])
    assert corner_numbers(tri, 3) is corner_numbers(tri, 5)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("numbers", "told"), [([0, 1, 3], "0 to 3 of 3"), ([-1, 1, 2], "-1 to 2 of 3")]
)
@pytest.mark.parametrize("is_inference", [False, True])
def test_numbers_out_of_range_are_refused_however_often(numbers, told, is_inference):
    with torch.inference_mode(is_inference):
        tri = torch.tensor([numbers])
    for _ in range(2):
        with pytest.raises(InputError, match=f"triangles name vertices {told}"):
            corner_numbers(tri, 3)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_triangles_that_were_written_to_are_looked_at_anew(dtype):
    tri = torch.tensor([[0, 1, 2]], dtype=dtype)
    assert corner_numbers(tri, 3).tolist() == [[0, 1, 2]]
    tri[0, 2] = 7
    assert corner_numbers(tri, 8).tolist() == [[0, 1, 7]]
    with pytest.raises(InputError, match="0 to 7 of 3"):
        corner_numbers(tri, 3)


def test_no_triangles_name_no_vertex():
    assert corner_numbers(torch.zeros(0, 3, dtype=torch.int64), 0).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_nothing_is_kept_of_triangles_that_are_gone(dtype):
    tri = torch.tensor([[0, 1, 2]], dtype=dtype)
    copy = weakref.ref(corner_numbers(tri, 3))
    before = len(corners._found)
    del tri
    gc.collect()
    assert copy() is None and len(corners._found) < before
