"""Which numbers the command line takes."""

import argparse

import pytest

from backend.option_numbers import amount, count, positive, whole


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (count, {"1": 1, "20": 20}, ["0", "-1", "1.5", "1e3", "two", "", "²"]),
        (whole, {"0": 0, "3": 3}, ["-1", "0.5", "none"]),
        (amount, {"0": 0.0, "2.5": 2.5, "1e3": 1000.0}, ["-1", "nan", "inf", "much"]),
        (positive, {"0.02": 0.02}, ["0", "-1", "nan", "inf", "much"]),
    ],
)
def test_what_makes_no_sense_is_refused(kind, taken, refused):
    assert {text: kind(text) for text in taken} == taken
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError, match=r"is no .*number"):
            kind(text)
