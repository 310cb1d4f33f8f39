"""Removing an environment, and leaving everything else alone."""

from __future__ import annotations

import pytest

from backend import installation
from backend.environment import Environment
from backend.errors import SetupError

from .installed import put_environment


class TestRemove:
    def test_ours(self, root):
        put_environment(root)
        assert installation.remove(Environment(root)) is True
        assert not root.exists() and not list(root.parent.glob(".*removed*"))
        assert installation.remove(Environment(root)) is False

    def test_an_interrupted_one(self, root):
        put_environment(root, marker=False)
        assert installation.remove(Environment(root)) is True

    def test_somebody_elses_is_left_alone(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(SetupError, match="left alone"):
            installation.remove(Environment(root))
        assert (root / "thesis.tex").read_text() == "precious"

    def test_not_while_it_is_being_installed(self, root):
        put_environment(root)
        with installation._installer_lock(root, None), pytest.raises(SetupError, match="Another process"):
            installation.remove(Environment(root))
