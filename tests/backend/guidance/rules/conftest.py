from __future__ import annotations

import pytest

from tests.backend.guidance.rules.toy import ToyPrior


@pytest.fixture
def prior() -> ToyPrior:
    return ToyPrior()
