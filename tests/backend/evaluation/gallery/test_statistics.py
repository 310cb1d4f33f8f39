"""Means, intervals, differences and ranks: worked by hand, on synthetic data, and as properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import InputError
from backend.evaluation.gallery.records import JUDGEMENTS, UNKNOWN, Record
from backend.evaluation.gallery.statistics import (
    ANGLE_STDS,
    MEASURES,
    Estimate,
    _shares,
    angle_std,
    crossed_estimate,
    difference,
    differences,
    estimate,
    mean_ranks,
    ranks,
    summary,
    values_of,
)

from .synthetic import record, records

TABLES = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), st.floats(-100, 100) | st.just(math.nan), min_size=1, max_size=16
)


class TestParticipants:
    """Orders of the same people in several prompts."""

    def test_the_mean_is_that_over_prompts_of_those_over_participants(self):
        table = {("cat", 1): 1.0, ("cat", 2): 2.0, ("dog", 1): 3.0, ("dog", 2): UNKNOWN}
        found = crossed_estimate(table)
        assert (found.value, found.prompts, found.runs, found.missing) == (2.25, 2, 3, 1)
        assert found.low == pytest.approx(1.0) and found.high == pytest.approx(3.0)
        assert repr(crossed_estimate({("cat", 1): 1.0, ("cat", 2): 2.0})) == repr(estimate({("cat", 1): 1.0, ("cat", 2): 2.0}))

    def test_one_participant_has_the_interval_over_prompts(self):
        table = {(prompt, 1): float(rank) for prompt, rank in zip("abcdefgh", (1, 2, 2, 3, 1, 1, 2, 3))}
        alone, plain = crossed_estimate(table), estimate(table)
        assert alone.low == pytest.approx(plain.low, abs=0.13) and alone.high == pytest.approx(plain.high, abs=0.13)

    def test_a_taste_that_somebody_has_everywhere_is_no_news_in_each_prompt(self):
        """Twelve people lean either way, ten prompts hardly differ: a mean of twelve is known no better for the prompts."""
        rng, hits, repetitions, nested = np.random.default_rng(0), 0, 200, 0
        for _ in range(repetitions):
            leaning = rng.normal(0, 1, 12)
            table = {(f"p{p}", q): float(leaning[q] + rng.normal(0, 0.5)) for p in range(10) for q in range(12)}
            both, within = crossed_estimate(table, draws=500), estimate(table, draws=500)
            hits, nested = hits + (both.low <= 0 <= both.high), nested + (within.low <= 0 <= within.high)
        assert 0.88 <= hits / repetitions <= 0.98
        assert nested / repetitions < 0.75, "which is why participants are not taken for seeds"

    def test_few_participants_are_few_however_many_prompts_there_are(self):
        rng, hits, repetitions = np.random.default_rng(0), 0, 200
        for _ in range(repetitions):
            leaning = rng.normal(0, 1, 4)
            table = {(f"p{p}", q): float(leaning[q] + rng.normal(0, 0.5)) for p in range(40) for q in range(4)}
            found = crossed_estimate(table, draws=2000)
            hits += found.low <= 0 <= found.high
        assert hits / repetitions >= 0.88


class TestMeans:
    def test_every_prompt_counts_the_same(self):
        found = estimate({("cat", 0): 1.0, ("cat", 1): 2.0, ("cat", 2): 3.0, ("dog", 0): 10.0})
        assert found.value == pytest.approx(6.0) and (found.prompts, found.runs, found.missing) == (2, 4, 0)
        assert 1 <= found.low <= 2 and found.high == 10, "of two prompts drawn, often both are the same"

    def test_what_has_no_value_is_left_out_and_counted(self):
        found = estimate({("cat", 0): 1.0, ("cat", 1): UNKNOWN, ("dog", 0): UNKNOWN, ("pig", 0): 3.0})
        assert found.value == 2.0 and (found.prompts, found.runs, found.missing) == (2, 2, 2)
        assert estimate({("cat", 0): UNKNOWN}).missing == 1 and not estimate({("cat", 0): UNKNOWN}).known and not estimate({}).known

    def test_one_prompt_has_no_interval(self):
        found = estimate({("cat", 0): 1.0, ("cat", 1): 2.0})
        assert found.value == 1.5 and math.isnan(found.low) and math.isnan(found.high) and not found.clear_of_zero

    def test_the_seed_decides_and_nothing_else(self):
        table = {(prompt, seed): math.sqrt(ord(prompt)) * 7 % 1 + seed for prompt in "abcdefgh" for seed in range(3)}
        found = []
        for seed in (0, 0, 1):
            _shares.cache_clear()
            found.append(estimate(table, seed=seed))
        assert found[0] == found[1] != found[2] and found[0].value == found[2].value

    @given(TABLES, st.randoms())
    @settings(max_examples=50, deadline=None)
    def test_order_does_not_matter_and_the_mean_lies_within(self, table, random):
        items = list(table.items())
        random.shuffle(items)
        first, second = estimate(table, draws=200), estimate(dict(items), draws=200)
        assert repr(first) == repr(second)
        known = [value for value in table.values() if not math.isnan(value)]
        if first.prompts > 1:
            assert min(known) - 1e-9 <= first.low <= first.high <= max(known) + 1e-9

    @given(TABLES, st.floats(-50, 50), st.floats(0.1, 10))
    @settings(max_examples=50, deadline=None)
    def test_shifts_and_scales_with_the_values(self, table, shift, scale):
        plain = estimate(table, draws=200)
        moved = estimate({key: shift + scale * value for key, value in table.items()}, draws=200)
        for name in ("value", "low", "high"):
            assert getattr(moved, name) == pytest.approx(shift + scale * getattr(plain, name), abs=1e-6, nan_ok=True)

    @pytest.mark.parametrize(("prompts", "seeds", "of_prompts", "of_seeds"), [(40, 3, 0, 1), (12, 3, 1, 0.5), (8, 1, 1, 0), (6, 8, 0, 1)])
    def test_intervals_cover_the_truth_as_often_as_they_say(self, prompts, seeds, of_prompts, of_seeds):
        """Normal prompts and normal seeds within them, also where all that differs is the seeds."""
        rng, hits, repetitions = np.random.default_rng(0), 0, 600
        for _ in range(repetitions):
            offsets = rng.normal(0, of_prompts, prompts)
            table = {(str(p), s): 5 + offsets[p] + rng.normal(0, of_seeds) for p in range(prompts) for s in range(seeds)}
            found = estimate(table, draws=2000)
            hits += found.low <= 5 <= found.high
        assert 0.92 <= hits / repetitions <= 0.97

    def test_the_interval_of_a_mean_is_that_of_students_t(self):
        """So far as values of one spread, which the bootstrap sees, are alike: t(7) at 97.5 % is 2.365."""
        values = np.array([-7, -5, -3, -1, 1, 3, 5, 7], dtype=float)
        found = estimate({(str(p), 0): value for p, value in enumerate(values)}, draws=200_000)
        assert found.high == pytest.approx(2.365 * values.std(ddof=1) / math.sqrt(8), rel=0.05)
        assert found.low == pytest.approx(-found.high, rel=0.02)

    def test_seeds_of_a_prompt_are_not_taken_for_prompts(self):
        """The same forty numbers: ten prompts that differ and four seeds that do not tell less than forty prompts."""
        levels = np.random.default_rng(1).normal(0, 1, 10)
        clustered = estimate({(str(p), s): levels[p] for p in range(10) for s in range(4)})
        independent = estimate({(f"{p} {s}", 0): levels[p] for p in range(10) for s in range(4)})
        assert clustered.high - clustered.low > 1.6 * (independent.high - independent.low)

    @pytest.mark.parametrize(("low", "high", "clear"), [(-2, -1, True), (1, 2, True), (-1, 1, False), (0, 1, False), (-1, 0, False)])
    def test_an_interval_is_clear_of_zero_on_either_side(self, low, high, clear):
        assert Estimate((low + high) / 2, low, high).clear_of_zero is clear


class TestDifferences:
    @given(TABLES)
    @settings(max_examples=30, deadline=None)
    def test_of_the_same_is_zero(self, table):
        found = difference(table, table, draws=100)
        assert not found.known or found.value == 0
        assert not found.clear_of_zero and (math.isnan(found.low) or found.low == found.high == 0)

    def test_takes_pairs_and_counts_the_others(self):
        first = {("cat", 0): 5.0, ("cat", 1): 7.0, ("dog", 0): 2.0, ("pig", 0): UNKNOWN}
        second = {("cat", 0): 4.0, ("dog", 0): 4.0, ("owl", 0): 1.0, ("pig", 0): 1.0}
        found = difference(first, second)
        assert found.value == pytest.approx((1 - 2) / 2) and (found.prompts, found.runs, found.missing) == (2, 2, 3)

    def test_what_prompts_share_does_not_blur_it(self):
        rng = np.random.default_rng(2)
        base = {(str(p), s): rng.normal(20 + p, 0.01) for p in range(8) for s in range(2)}
        better = {key: value + 0.1 for key, value in base.items()}
        assert difference(better, base).clear_of_zero and difference(base, better).high < 0
        assert estimate(base).high - estimate(base).low > 1

    def test_where_one_is_right_the_distance_counts(self):
        made = [record(v, p, view_change=x) for v, p, x in (("a", "cat", 0.7), ("a", "dog", 0.7), ("b", "cat", 1.1), ("b", "dog", 1.1))]
        found = differences(made, ["a", "b"], "a")
        assert list(found) == ["b"] and found["b"]["view_change"].value == pytest.approx(0.1 - 0.3)

    def test_without_a_reference_there_is_none(self):
        found = differences([record("a", psnr=20.0)], ["a"], "cograd3d")
        assert not found["a"]["psnr"].known and found["a"]["psnr"].missing == 1


class TestAngleStd:
    def test_by_hand(self):
        made = [
            record(prompt="cat", seed=0, alignment_angles=(1.0, 5.0)),
            record(prompt="cat", seed=1, alignment_angles=(3.0, 5.0)),  # sqrt(2) at the first angle, 0 at the second
            record(prompt="dog", seed=0, alignment_angles=(0.0, 0.0)),
            record(prompt="dog", seed=1, alignment_angles=(0.0, 6.0)),  # 0 and sqrt(18)
            record(prompt="pig", seed=0, alignment_angles=(9.0, 0.0)),
        ]
        found = angle_std(made)
        assert found.value == pytest.approx((math.sqrt(2) / 2 + math.sqrt(18) / 2) / 2 * math.sqrt(math.pi / 2))
        assert (found.prompts, found.runs, found.missing) == (2, 4, 1)

    @pytest.mark.parametrize("seeds", [2, 3, 8])
    def test_does_not_depend_on_how_many_seeds_there_are(self, seeds):
        rng = np.random.default_rng(0)
        made = [record(prompt=f"{p}", seed=s, clip_b32_angles=tuple(rng.normal(0, 1, 12))) for p in range(150) for s in range(seeds)]
        assert angle_std(made, "clip_b32_angles").value == pytest.approx(1, abs=0.04)
        assert not angle_std(made).known

    def test_takes_two_seeds(self):
        assert not angle_std([record(alignment_angles=(1.0, 2.0))]).known and not angle_std([]).known
        assert not angle_std([record(seed=0, alignment_angles=(1.0,)), record(seed=1)]).known

    def test_angles_must_be_the_same(self):
        with pytest.raises(InputError, match="angles"):
            angle_std([record(seed=0, alignment_angles=(1.0,)), record(seed=1, alignment_angles=(1.0, 2.0))])


class TestRanks:
    @pytest.mark.parametrize(("values", "expected"), [((3, 1, 2), (3, 1, 2)), ((1, 1, 2), (1.5, 1.5, 3)), ((7, 7, 7), (2, 2, 2))])
    def test_ties_share(self, values, expected):
        assert ranks(values).tolist() == list(expected)

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    def test_sum_is_that_of_all_ranks(self, values):
        assert ranks(values).sum() == len(values) * (len(values) + 1) / 2

    def test_means_over_pairs_that_all_have(self):
        scores = {"a": {"cat": 30.0, "dog": 20.0}, "b": {"cat": 25.0, "dog": 20.0, "pig": 99.0}, "c": {"cat": 20.0, "dog": 25.0}}
        made = [record(v, p, psnr=x) for v, row in scores.items() for p, x in row.items()]
        found = mean_ranks(made, list(scores), MEASURES["psnr"])
        assert {variant: each.value for variant, each in found.items()} == {"a": 1.75, "b": 2.25, "c": 2.0}
        assert found["b"].missing == 1 and found["a"].missing == 0

    @pytest.mark.parametrize(("name", "best"), [("psnr", 3.0), ("janus", 1.0), ("view_change", 1.2)])
    def test_which_way_is_better(self, name, best):
        made = [record(str(x), **{name: x}) for x in (best, 2.0, 0.5 if name == "view_change" else 2.5)]
        found = mean_ranks(made, [each.variant for each in made], MEASURES[name])
        assert min(found, key=lambda variant: found[variant].value) == str(best)


def test_every_figure_of_a_record_has_a_measure():
    identifying = {
        "variant",
        "prompt",
        "seed",
        "prior",
        "reliability",
        "quality",
        "budget",
        "fingerprint",
        "iterations",
        *ANGLE_STDS.values(),
        *JUDGEMENTS,
    }
    assert set(MEASURES) == set(Record.__dataclass_fields__) - identifying


def test_summary_has_all_of_all():
    made = records(seeds=2)
    found = summary(made, ["cograd3d", "w/o A"])
    assert found["cograd3d"].keys() == {*MEASURES, *ANGLE_STDS} and found["cograd3d"]["angle_std"].known
    psnr = values_of(made, "cograd3d", "psnr")
    assert found["cograd3d"]["psnr"] == estimate(psnr) and len(psnr) == 8
    assert repr(found["cograd3d"]["clip_b32"]) == repr(Estimate(missing=8))
