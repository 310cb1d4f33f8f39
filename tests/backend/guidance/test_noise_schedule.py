"""Diffusion and flow matching in one language."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from backend.errors import PriorError
from backend.guidance.noise_schedule import flow_alphas, flow_input, read_schedule, to_noise

from .tiny_models.configurations import SCHEDULERS


def write(folder: Path, config: dict) -> Path:
    path = folder / "scheduler_config.json"
    path.write_text(json.dumps(config))
    return path


def test_conversion_to_noise_inverts_each_parametrisation() -> None:
    generator = torch.Generator().manual_seed(0)
    z, eps = torch.randn(2, 2, 3, 5, generator=generator, dtype=torch.float64).unbind(0)
    abar = torch.tensor([0.3, 0.9], dtype=torch.float64)[:, None, None]
    z_t = abar.sqrt() * z + (1 - abar).sqrt() * eps
    predictions = {
        "epsilon": eps,
        "v_prediction": abar.sqrt() * eps - (1 - abar).sqrt() * z,
        "sample": z,
        "flow_prediction": eps - z,
    }
    for kind, prediction in predictions.items():
        torch.testing.assert_close(to_noise(prediction, z_t, abar, kind), eps)


def test_conversion_by_hand() -> None:
    # abar = 0.64: signal 0.8, noise 0.6; z = 1, eps = 2 give z_t = 0.8 + 1.2 = 2, v = 0.8 * 2 - 0.6 * 1 = 1 and a flow of 2 - 1 = 1.
    z_t, abar = torch.tensor([2.0]), torch.tensor([0.64])
    assert to_noise(torch.tensor([1.0]), z_t, abar, "v_prediction").item() == pytest.approx(2)
    assert to_noise(torch.tensor([1.0]), z_t, abar, "sample").item() == pytest.approx(2)
    assert to_noise(torch.tensor([1.0]), z_t, abar, "flow_prediction").item() == pytest.approx(2)
    with pytest.raises(PriorError, match="flow"):
        to_noise(z_t, z_t, abar, "flow")


def test_a_flow_is_shown_the_straight_line_between_picture_and_noise() -> None:
    # sigma = 0.6: norm sqrt(0.4^2 + 0.6^2) = sqrt(0.52), so abar = 0.16 / 0.52; z = 1, eps = 2 give x_t = 0.4 + 1.2 = 1.6.
    abar = torch.tensor([0.16 / 0.52], dtype=torch.float64)
    x_t, sigma = flow_input(abar.sqrt() * 1 + (1 - abar).sqrt() * 2, abar)
    assert x_t.item() == pytest.approx(1.6)
    assert sigma.item() == pytest.approx(0.6)


def test_levels_of_a_flow_are_shifted_and_end_before_pure_noise() -> None:
    abar = flow_alphas(1000, 3.0).double()
    sigma = flow_input(torch.zeros(1000), abar)[1]
    s = 300.5 / 1000
    assert sigma[300].item() == pytest.approx(3 * s / (1 + 2 * s), rel=1e-5)
    assert (abar.diff() < 0).all() and abar[0] < 1 and abar[-1] > 0
    for shift in (1.0, 12.0):
        assert (flow_alphas(1000, shift).diff() < 0).all(), "every level is its own in single precision"


def test_flow_scheduler(tmp_path: Path) -> None:
    abar, kind = read_schedule(write(tmp_path, SCHEDULERS["sd3"]), flow=True)
    assert kind == "flow_prediction"
    torch.testing.assert_close(abar, flow_alphas(1000, 3.0))


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (1024, 0.5 + 0.65 * 768 / 3840)])
def test_a_shift_that_grows_with_the_picture(tmp_path: Path, tokens: int, mu: float) -> None:
    abar, _ = read_schedule(write(tmp_path, SCHEDULERS["flux"]), flow=True, image_tokens=tokens)
    torch.testing.assert_close(abar, flow_alphas(1000, math.exp(mu)))
    plain = SCHEDULERS["flux"] | {"time_shift_type": "linear"}
    torch.testing.assert_close(read_schedule(write(tmp_path, plain), flow=True, image_tokens=tokens)[0], flow_alphas(1000, mu))


def test_the_shift_is_the_schedulers(tmp_path: Path) -> None:
    """Diffusers' own scheduler puts its levels at k / T for k in 1..T; ours lie half a step below, under the same shift."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.flip(0).double()
    ours = flow_input(torch.zeros(1000), flow_alphas(1000, 3.0).double())[1]
    assert (ours < theirs).all() and (ours[1:] > theirs[:-1]).all()


def test_a_schedule_that_ends_in_pure_noise_stays_above_zero(tmp_path: Path) -> None:
    config = SCHEDULERS["sd21"] | {"rescale_betas_zero_snr": True}
    abar, _ = read_schedule(write(tmp_path, config), flow=False)
    assert 0 < abar[-1] < 1e-6 and (abar.double().diff() < 0).all()


@pytest.mark.parametrize(("kind", "flow"), [("sd15", True), ("sd3", False)])
def test_a_scheduler_of_the_other_kind_is_refused(tmp_path: Path, kind: str, flow: bool) -> None:
    with pytest.raises(PriorError, match=r"is unknown to this model") as caught:
        read_schedule(write(tmp_path, SCHEDULERS[kind]), flow=flow)
    assert "scheduler folder" in caught.value.remedy
