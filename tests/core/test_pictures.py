"""Claims about pictures: rounding, layout, files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import sheet
from PIL import Image

from dreamlab.core.errors import InputError
from dreamlab.core.pictures import (
    LABEL_HEIGHT,
    normal_to_rgb,
    open_picture,
    save,
    tile,
    to_bytes,
    untile,
)


@given(st.integers(0, 255))
def test_a_byte_survives_the_way_through_a_float(value):
    assert to_bytes(np.full((1, 1, 3), value / 255.0))[0, 0, 0] == value


def test_values_outside_the_range_are_clipped():
    np.testing.assert_array_equal(to_bytes(np.array([-1.0, 2.0])), [0, 255])


def test_a_normal_maps_to_the_usual_colours():
    normals = np.array([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(normal_to_rgb(normals), [[1, 0.5, 0], [0.5, 0.5, 0.5]])


def image(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


def test_cells_lie_in_reading_order_below_and_beside_their_labels():
    rows = [[image(10), image(20)], [image(30), image(40)]]
    sheet = tile(rows, row_labels=["a", "bb"], column_labels=["x", "y"], cell=16, gap=2)
    left, top = sheet.width - 2 * 18, sheet.height - 2 * 18
    assert top == LABEL_HEIGHT and left > 0
    pixels = np.asarray(sheet)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            y, x = top + i * 18, left + j * 18
            assert (pixels[y : y + 16, x : x + 16] == cell[0, 0, 0]).all()
    assert (pixels[:top, left:] < 255).any(), "the labels are drawn"
    assert (pixels[top:, :left] < 255).any()


def test_without_labels_no_room_is_left_for_them_and_rows_may_differ_in_length():
    sheet = tile([[image(1)], [image(2), image(3)]], cell=8, gap=0)
    assert sheet.size == (16, 16)
    assert sheet.getpixel((12, 4)) == (255, 255, 255)


def test_a_saved_picture_reads_back(tmp_path):
    path = tmp_path / "picture.png"
    save(tile([[image(77)]], cell=4, gap=0), path)
    assert np.asarray(Image.open(path)).max() == 77
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("columns", [1, 4, 8])
def test_a_sheet_is_cut_into_the_cells_that_it_was_laid_out_of(columns):
    rows = untile(sheet(columns), rows=3)
    assert [len(row) for row in rows] == [columns] * 3
    for row in rows:
        for j, cell in enumerate(row):
            assert cell.size == (128, 128)
            assert np.unique(np.asarray(cell).reshape(-1, 3), axis=0).tolist() == [
                [20 * j, 200, 90]
            ]


def test_a_picture_that_is_no_sheet_is_not_cut():
    whole = sheet().crop((0, 0, 300, LABEL_HEIGHT + 5))
    with pytest.raises(ValueError, match="3 rows"):
        untile(whole, rows=3)


def test_what_is_transparent_is_white(tmp_path):
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "half.png")
    opened = open_picture(tmp_path / "half.png", "here")
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]


def test_a_file_that_is_no_picture_is_refused_with_the_setting(tmp_path):
    (tmp_path / "no.png").write_text("none")
    with pytest.raises(InputError, match=r"here: .*no\.png cannot be read as a picture"):
        open_picture(tmp_path / "no.png", "here")
