"""Claims about errors: a code each, and a suggestion that helps."""

import pickle

import pytest

from dreamlab.core import errors
from dreamlab.core.errors import DreamlabError, ExitCode, InputError, nearest


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InputError, 2),
        (errors.MissingError, 3),
        (errors.MemoryExhaustedError, 4),
        (errors.DivergedError, 5),
    ],
)
def test_each_kind_of_error_has_the_exit_code_of_the_design(kind, code):
    error = kind("it was x.", "use y.")
    assert isinstance(error, DreamlabError)
    assert (error.message, error.fix, int(error.code)) == ("it was x.", "use y.", code)
    assert str(error) == "it was x. Fix: use y."


def test_a_code_can_be_given_for_one_error_only():
    assert DreamlabError("a", "b", ExitCode.STOPPED).code == 130
    assert DreamlabError("a", "b").code == 2


def test_an_error_crosses_a_process_boundary():
    error = pickle.loads(pickle.dumps(InputError("got x.", "use y.")))
    assert (error.message, error.fix, error.code) == ("got x.", "use y.", ExitCode.BAD_INPUT)


def test_the_nearest_names_are_suggested_and_all_when_none_is_near():
    assert nearest("tobyox", ["toybox", "dreamfusion"]) == "did you mean 'toybox'?"
    assert nearest("zzz", ["toybox", "dreamfusion"]) == "allowed: dreamfusion, toybox."
