"""Settings that must be refused."""

import pytest

from backend import settings
from backend.errors import ConfigError


def refused(*sets, **arguments):
    """The error of settings that must be refused."""
    with pytest.raises(ConfigError) as error:
        settings.resolve(sets=sets, **arguments)
    assert error.value.remedy
    return error.value
