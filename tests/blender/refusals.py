"""Why buttons are grey."""

from __future__ import annotations

from typing import Any

import pytest


def why_grey(operator: Any, **arguments: object) -> str:
    """What a grey button says."""
    assert not operator.poll()
    with pytest.raises(RuntimeError) as caught:
        operator(**arguments)
    return str(caught.value)
