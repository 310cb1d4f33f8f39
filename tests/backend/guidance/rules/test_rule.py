"""What all rules share: the guidance scale, the weight, the bound, the branches, the steps between noise levels."""

from __future__ import annotations

import pytest
import torch

from backend.config import GuidanceConfig
from backend.guidance.rules import (
    RULES,
    Moment,
    add_noise,
    combine_branches,
    draw_noise,
    guided_branches,
    guided_noise,
    mean_square,
    predict_together,
    rule_class,
    share_of_nominal,
)
from tests.backend.guidance.rules.toy import ToyPrior, ask, call, make, pictures, seeded, sigma_of, steps

RISING = ((0.0, 1.5), (1.0, 2.0))


def test_noise_is_drawn_in_main_memory_whatever_the_device() -> None:
    """The device's own random numbers could not be gone on with on another one; the `meta` device stands for it, which has none."""
    drawn, elsewhere = seeded(), seeded()
    first, _ = draw_noise(torch.zeros(2, 3), drawn), draw_noise(torch.zeros(2, 3, device="meta"), elsewhere)
    assert elsewhere.get_state().equal(drawn.get_state())
    assert first.equal(torch.randn(2, 3, generator=seeded()))


# The guidance scale


@pytest.mark.parametrize(
    ("scale", "recommended", "expected"),
    [(100, 7.5, 7.5), (1, 7.5, 1), (50.5, 3, 2), (100, 100, 100), (7.5, 100, 7.5), (0, 100, 0), (30, 1, 1)],
)
def test_a_published_scale_is_taken_as_a_share_of_what_lies_above_the_prompt_alone(
    scale: float, recommended: float, expected: float
) -> None:
    """1 + (s - 1) (r - 1) / 99: for 50.5 and 3 that is 1 + 49.5 * 2 / 99."""
    assert share_of_nominal(scale, recommended) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 3.0),
        ({"nominal_scale": 50.5}, 2.0),
        ({"nominal_scale": ((0.0, 100.0), (1.0, 1.0))}, 2.0),
        ({"scale": 8.0, "nominal_scale": 50.5}, 8.0),
        ({"scale": 0.0}, 0.0),
    ],
)
def test_scale_goes_before_nominal_scale_and_that_before_the_recommendation(settings: dict, expected: float) -> None:
    assert make(ToyPrior(guidance_scale=3.0), "sds", **settings).scale_at(0.5) == pytest.approx(expected)


# The weight and the bound


def test_weight_is_the_settings_else_the_rules_own_else_the_priors(prior: ToyPrior) -> None:
    own = {"sds": None, "perp_neg": None, "asd": None, "csd": None, "vsd": None, "ism": "x0", "hifa": "x0", "cds": "uniform"}
    for name, weighting in own.items():
        assert make(ToyPrior(weighting="flow"), name).weighting == (weighting or "flow"), name
        assert make(ToyPrior(weighting="flow"), name, weighting="sds").weighting == "sds", name
        assert rule_class(name).settled_weighting(GuidanceConfig(), "flow") == (weighting or "flow")


@pytest.mark.parametrize("weighting", ["sds", "x0", "uniform", "flow"])
def test_weights_of_a_noise_level(prior: ToyPrior, weighting: str) -> None:
    a = prior.alphas_cumprod[250].item()
    expected = {"sds": 1 - a, "x0": sigma_of(a), "uniform": 1.0, "flow": 1 + sigma_of(a)}[weighting]
    weight = make(prior, "sds", weighting=weighting).weight(steps(250, 800))
    assert weight.shape == (2, 1, 1, 1)
    assert weight[0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("clamp", "recommended", "progress", "bound"), [(0.3, 0.7, 0.0, 0.3), (None, 0.7, 0.0, 0.7), (RISING, 0.7, 0.5, 1.75)]
)
def test_bound_on_the_gradient_is_the_settings_at_this_progress_else_the_priors(
    clamp: object, recommended: float, progress: float, bound: float
) -> None:
    gradient = torch.tensor([-9.0, -0.1, 0.1, 9.0])
    rule = make(ToyPrior(clamp=recommended), "sds", clamp=clamp)
    assert torch.allclose(rule.clamped(gradient, progress), torch.tensor([-bound, -0.1, 0.1, bound]))


def test_no_bound_is_zero() -> None:
    gradient = torch.tensor([-1e9, 1e9])
    assert torch.equal(make(ToyPrior(clamp=0.7), "sds", clamp=0.0).clamped(gradient, 0.0), gradient)


# Predictions


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 1), (1.0, 1), (7.5, 2)])
def test_guidance_scale_is_eu_plus_s_times_the_difference(prior: ToyPrior, scale: float, rows: int) -> None:
    z_t, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), steps(400)
    views = ask(prior, "two", "blurry")
    e_u, e_c = (prior.predict_noise(z_t, t, words) for words in (views.negative, views.positive))
    prior.calls.clear()
    assert torch.allclose(guided_noise(prior, z_t, t, views, scale), e_u + scale * (e_c - e_u))
    assert prior.calls == [[400] * rows]


def test_branches_are_the_negative_the_positive_and_the_opposing_in_order(prior: ToyPrior) -> None:
    views = ask(prior, "red", "blurry", opposing=[("orange", -1.0), ("purple", -1.0)])
    z_t, t = pictures(), steps(400)

    def words(scale: float) -> list[str]:
        return [conditioning.prompts[0] for _, _, conditioning in guided_branches(z_t, t, views, scale)]

    assert words(0.0) == ["blurry"]
    assert words(1.0) == words(3.0) == ["blurry", "red", "orange", "purple"]
    predictions = [torch.randn(1, 3, 4, 4, generator=seeded(i)) for i in range(4)]
    assert torch.equal(combine_branches(predictions[:1], views, 0.0), predictions[0])


def test_together_is_as_one_by_one(prior: ToyPrior) -> None:
    views = ask(prior, "two", "blurry", 2)
    parts = [
        (torch.randn(2, 3, 4, 4, dtype=torch.float64), t, words)
        for t, words in ((steps(1, 9), views.positive), (steps(5, 7), views.negative))
    ]
    for together, part in zip(predict_together(prior, parts), parts, strict=True):
        assert torch.allclose(together, prior.predict_noise(*part))
    assert prior.calls[0] == [1, 9, 5, 7]
    assert torch.equal(predict_together(prior, parts[:1])[0], prior.predict_noise(*parts[0]))


def test_mean_square_is_over_everything_but_the_rows() -> None:
    assert mean_square(torch.tensor([[[1.0, 3.0]], [[0.0, 2.0]]])).tolist() == [5.0, 2.0]


# Noise levels


def test_noise_of_the_level_is_added(prior: ToyPrior) -> None:
    z, noise = torch.ones(2, 1, 1, 1, dtype=torch.float64), 2 * torch.ones(2, 1, 1, 1, dtype=torch.float64)
    a, b = prior.alphas_cumprod[[100, 700]].tolist()
    assert add_noise(prior.alphas_cumprod, z, steps(100, 700), noise).flatten().tolist() == pytest.approx(
        [a**0.5 + 2 * (1 - a) ** 0.5, b**0.5 + 2 * (1 - b) ** 0.5]
    )


def test_a_step_keeps_the_picture_and_the_noise_and_changes_their_shares(prior: ToyPrior) -> None:
    rule, z, noise = make(prior, "sds"), torch.randn(3, 3, 4, 4, dtype=torch.float64), torch.randn(3, 3, 4, 4, dtype=torch.float64)
    t, to = steps(500, 100, 300), steps(200, 900, 300)
    z_t, z_to = (add_noise(prior.alphas_cumprod, z, level, noise) for level in (t, to))
    assert torch.allclose(rule.ddim_step(z_t, noise, t, to), z_to)
    clean = steps(0, 0, 0)
    assert torch.allclose(rule.ddim_step(z_t, noise, t, clean), z), "timestep 0 stands for the clean picture"
    assert torch.allclose(rule.ddim_step(z, noise, clean, to), z_to)
    assert torch.equal(rule.ddim_step(z, noise, clean, clean), z)


def test_last_timestep_still_has_a_signal(prior: ToyPrior) -> None:
    assert make(prior, "sds").last_timestep == 999
    prior.alphas_cumprod = torch.linspace(1, 0, 50)
    assert make(prior, "sds").last_timestep == 48


def test_views_that_are_predicted_together_share_a_draw(prior: ToyPrior) -> None:
    assert len(set(make(prior, "sds").draw_shares(6, seeded()).tolist())) == 6
    prior.views_per_prediction = 4
    shares = make(prior, "sds").draw_shares(8, seeded())
    assert shares.tolist() == [shares[0].item()] * 4 + [shares[4].item()] * 4
    assert shares[0] != shares[4]
    assert make(prior, "sds").draw_shares(3, seeded()).shape == (3,)
    many = make(ToyPrior(), "sds").draw_shares(4000, seeded())
    assert (many.min().item(), many.max().item()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))


# Every rule


RULE_NAMES = tuple(RULES)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rule_answers_in_zs_shape_and_type_and_leaves_its_arguments_alone(prior: ToyPrior, name: str) -> None:
    z, t = torch.randn(3, 3, 4, 4, dtype=torch.float64), steps(40, 500, 980)
    kept, random = z.clone(), torch.get_rng_state()
    answer = call(make(prior, name, scale=3.0), z, t, ask(prior, "two", "blurry", 3, [("orange", -0.5)]))
    assert (answer.gradient.shape, answer.gradient.dtype, answer.loss.shape) == (z.shape, z.dtype, (3,))
    assert answer.gradient.isfinite().all()
    assert not answer.gradient.requires_grad
    assert torch.equal(z, kept)
    assert torch.equal(torch.get_rng_state(), random), "all that is drawn comes from the generator"


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rule_gives_the_same_gradient_for_the_same_generator_state(prior: ToyPrior, name: str) -> None:
    z, t = pictures(count=2), steps(300, 500)
    views = ask(prior, "two", "blurry", 2)
    first, second = (call(make(prior, name, scale=3.0), z, t, views, seed=9).gradient for _ in range(2))
    assert torch.equal(first, second)
    if name not in ("ism", "csd"):
        assert not torch.allclose(first, call(make(prior, name, scale=3.0), z, t, views, seed=8).gradient)


@pytest.mark.parametrize("name", RULE_NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("perp_neg", [0.0, 0.5])
def test_every_rule_knows_whether_it_heeds_the_negative_prompt(prior: ToyPrior, name: str, scale: float, perp_neg: float) -> None:
    z, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), steps(500)
    opposing = [("orange", -perp_neg)] if perp_neg else []
    gradients = [
        call(make(prior, name, scale=scale, perp_neg=perp_neg), z, t, ask(prior, "red", negative, opposing=opposing)).gradient
        for negative in ("", "blurry")
    ]
    heeds = not torch.equal(*gradients)
    assert heeds == (name == "csd" or scale != 1 or perp_neg > 0)
    assert make(prior, name, scale=scale, perp_neg=perp_neg).heeds_negative_prompt() == heeds


@pytest.mark.parametrize(
    ("recommended", "name", "settings", "heeds"),
    [
        (1.0, "sds", {}, False),
        (1.0, "sds", {"nominal_scale": 100.0}, False),
        (1.0, "sds", {"nominal_scale": 100.0, "least_scale": 2.5}, True),
        (1.0, "perp_neg", {}, True),
        (1.0, "perp_neg", {"view_prompts": False}, False),
        (100.0, "sds", {}, True),
        (100.0, "sds", {"nominal_scale": ((0.0, 1.0), (1.0, 1.0))}, False),
        (100.0, "sds", {"nominal_scale": ((0.0, 1.0), (0.9, 1.0), (1.0, 7.5))}, True),
    ],
)
def test_the_negative_prompt_is_heeded_where_guidance_goes_beyond_the_prompt(
    recommended: float, name: str, settings: dict, heeds: bool
) -> None:
    assert make(ToyPrior(guidance_scale=recommended), name, **settings).heeds_negative_prompt() == heeds


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rule_bounds_its_gradient_before_the_average(prior: ToyPrior, name: str) -> None:
    bound = 1e-6
    rule = make(prior, name, scale=3.0, clamp=((0.0, 0.0), (0.5, bound)))
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(300, 500)
    assert call(rule, z, t).gradient.abs().max() > bound, "no bound yet"
    later = call(rule, z, t, moment=Moment(0.6, 20, 980)).gradient
    assert later.abs().max().item() == pytest.approx(bound / 2)
    assert later.abs().median().item() == pytest.approx(bound / 2)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rules_scale_follows_its_schedule(prior: ToyPrior, name: str) -> None:
    """At progress 1 the nominal scale is the prompt alone, which leaves the negative prompt without a say."""
    prior = ToyPrior(guidance_scale=100.0)
    schedule = ((0.0, 100.0), (1.0, 1.0))
    answers = {}
    for progress in (0.0, 1.0):
        for negative in ("", "blurry"):
            rule = make(prior, name, nominal_scale=schedule)
            moment = Moment(progress, 20, 980)
            answers[progress, negative] = call(rule, pictures(), steps(500), ask(prior, "one", negative), moment=moment).gradient
    assert not torch.allclose(answers[0.0, ""], answers[0.0, "blurry"])
    if name != "csd":
        assert torch.equal(answers[1.0, ""], answers[1.0, "blurry"])


@pytest.mark.parametrize("name", [name for name in RULE_NAMES if name not in ("cds", "vsd")])
def test_most_rules_remember_nothing(prior: ToyPrior, name: str) -> None:
    rule = make(prior, name)
    call(rule, pictures(), steps(500))
    assert rule.state_dict() == {}
    rule.load_state_dict({})
