"""Removing an environment, and leaving everything else alone."""

from __future__ import annotations

import os

import pytest

from backend.environment import Environment
from backend.errors import SetupError
from backend.installation import installer_lock
from backend.removal import remove

from .installed import put_environment


class TestRemove:
    def test_ours(self, root):
        put_environment(root)
        assert remove(Environment(root)) is True
        assert not root.exists() and not list(root.parent.glob(".*removed*"))
        assert remove(Environment(root)) is False

    def test_an_interrupted_one(self, root):
        put_environment(root, marker=False)
        assert remove(Environment(root)) is True

    def test_somebody_elses_is_left_alone(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(SetupError, match="left alone"):
            remove(Environment(root))
        assert (root / "thesis.tex").read_text() == "precious"

    def test_one_behind_a_link_with_the_link(self, root, tmp_path):
        large = tmp_path / "large disk"
        large.mkdir()
        put_environment(large / "env")
        root.symlink_to(large / "env")
        assert remove(Environment(root)) is True
        assert not os.path.lexists(root) and not list(large.iterdir())

    def test_what_an_interrupted_removal_left(self, root, tmp_path):
        left, mine = tmp_path / ".env-removed-123", tmp_path / ".env-removed-photos"
        put_environment(left)
        mine.mkdir()
        assert remove(Environment(root)) is True
        assert not left.exists() and mine.exists()
        assert remove(Environment(root)) is False

    def test_what_cannot_be_deleted_is_told(self, root, monkeypatch):
        put_environment(root)
        monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)
        with pytest.raises(SetupError, match=r"Not all of .* could be removed: .*\.env-removed-\d+ is left"):
            remove(Environment(root))

    def test_not_while_it_is_being_installed(self, root):
        put_environment(root)
        with installer_lock(root, None), pytest.raises(SetupError, match="Another process"):
            remove(Environment(root))
