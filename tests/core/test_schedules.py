"""Claims about schedules: ends, order, easing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamlab.core.schedules import Schedule, check_within, ends, value_at

FRACTION = st.floats(0, 1)
VALUE = st.floats(0.01, 100)
EASE = st.sampled_from(["linear", "cosine", "sqrt", "log", "step"])


@given(VALUE, VALUE, FRACTION, FRACTION, EASE, FRACTION)
def test_a_schedule_is_constant_outside_and_stays_between_its_ends(start, stop, a, b, ease, x):
    schedule = Schedule(start, stop, begin=min(a, b), end=max(a, b), ease=ease)
    value = schedule.at(x)
    low, high = min(start, stop), max(start, stop)
    assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    if x >= schedule.end:
        assert value == stop
    elif x <= schedule.begin:
        assert value == start


@given(EASE, FRACTION, FRACTION)
def test_a_rising_schedule_never_falls(ease, a, b):
    schedule = Schedule(1.0, 5.0, begin=0.2, end=0.9, ease=ease)
    assert schedule.at(min(a, b)) <= schedule.at(max(a, b)) + 1e-12


@pytest.mark.parametrize(
    ("ease", "half_way"),
    [("linear", 2.5), ("cosine", 2.5), ("sqrt", 1 + 3 * 0.5**0.5), ("log", 2.0), ("step", 1.0)],
)
def test_each_ease_has_its_own_half_way_value(ease, half_way):
    assert Schedule(1.0, 4.0, ease=ease).at(0.5) == pytest.approx(half_way)


def test_value_at_takes_a_plain_number_as_it_is():
    assert value_at(3.0, 0.7) == 3.0
    assert value_at(Schedule(0.0, 1.0), 0.25) == 0.25


@pytest.mark.parametrize(
    "bad",
    [
        {"begin": 0.6, "end": 0.4},
        {"begin": -0.1},
        {"end": 1.5},
        {"end": 5000.0},
        {"ease": "log", "start": 0.0},
    ],
)
def test_steps_in_place_of_fractions_and_impossible_ends_are_refused(bad):
    with pytest.raises(ValueError):
        Schedule(**{"start": 1.0, "stop": 2.0, **bad})


def test_a_schedule_without_progress_has_no_value_and_a_number_has():
    assert value_at(3.0, None) == 3.0
    with pytest.raises(ValueError, match="only at a progress"):
        value_at(Schedule(0.0, 1.0), None)


@given(VALUE, VALUE, EASE, FRACTION)
def test_values_of_a_schedule_lie_between_its_ends(start, stop, ease, x):
    low, high = sorted(ends(Schedule(start, stop, ease=ease)))
    assert low * (1 - 1e-9) <= Schedule(start, stop, ease=ease).at(x) <= high * (1 + 1e-9)
    assert ends(start) == (start, start)


@pytest.mark.parametrize(
    ("scalar", "limits", "strictly", "message"),
    [
        (0.5, (0.0, 1.0), True, None),
        (Schedule(1.0, 0.0), (0.0, 1.0), False, None),
        (Schedule(1.0, 0.0), (0.0, 1.0), True, "s must lie strictly between 0 and 1, got 1 to 0"),
        (Schedule(0.5, -1.0), (0.0, 1.0), False, r"s must lie in \[0, 1\], got 0.5 to -1"),
        (-2.0, (0.0,), False, "s must be >= 0, got -2"),
        (0.0, (0.0,), True, "s must be > 0, got 0"),
        (float("inf"), (0.0,), True, None),
        (float("nan"), (0.0,), False, "s must be >= 0, got nan"),
    ],
)
def test_limits_hold_at_both_ends(scalar, limits, strictly, message):
    if message is None:
        check_within("s", scalar, *limits, strictly=strictly)
        return
    with pytest.raises(ValueError, match=message):
        check_within("s", scalar, *limits, strictly=strictly)
