import numpy as np

from dreamlab.priors.toybox.training.curves import PANEL, Curve, draw_curves, running_mean


def test_running_means_use_what_there_is():
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]


def test_a_falling_curve_is_drawn_from_the_top_left_to_the_bottom_right():
    sheet = draw_curves([Curve("loss", range(100), [2.0 ** (-i / 10) for i in range(100)])])
    blue = np.asarray(sheet).astype(int)
    ys, xs = np.nonzero((blue[..., 2] > 150) & (blue[..., 0] < 60))
    assert sheet.size == PANEL
    assert ys[xs < np.quantile(xs, 0.1)].mean() < ys[xs > np.quantile(xs, 0.9)].mean()


def test_short_and_nonpositive_curves_do_not_fail():
    draw_curves(
        [Curve("empty", [], []), Curve("zero", [1, 2], [0.0, 0.0]), Curve("one", [1], [1.0])]
    )
