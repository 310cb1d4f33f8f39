"""Names of priors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.config import PriorConfig
from backend.embedded.exact_prior import ExactPrior
from backend.errors import PriorError
from backend.guidance import load
from backend.guidance.load import load_prior

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["builtin", "builtin:exact"])
def test_the_built_in_prior_is_the_exact_one(name: str) -> None:
    prior = load_prior(PriorConfig(name=name, reliability=0.3, views=77), CPU, seed=0)
    assert isinstance(prior, ExactPrior)
    assert prior.reliability == 0.3
    assert prior.fingerprint != load_prior(PriorConfig(name=name, views=78), CPU, seed=0).fingerprint


def test_the_learned_prior_is_refused_while_it_is_not_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "LEARNED_WEIGHTS", tmp_path / "missing")
    with pytest.raises(PriorError, match="not part of this version"):
        load_prior(PriorConfig(name="builtin:learned"), CPU, seed=0)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriorError):
        load_prior(PriorConfig(name=str(tmp_path)), CPU, seed=0)
