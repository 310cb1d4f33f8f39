"""Removing an environment, and leaving everything else alone."""

from __future__ import annotations

import errno
import os

import pytest

from backend.environment import OWNER_FILE, Environment
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

    def test_what_a_process_of_the_same_number_left_is_not_in_the_way(self, root):
        left = root.with_name(f".env-removed-{os.getpid()}")
        for folder in (root, left):
            put_environment(folder)
        assert remove(Environment(root)) is True
        assert not root.exists() and not list(root.parent.glob(".*removed*"))

    @pytest.mark.parametrize(("code", "stays"), [(errno.EBUSY, True), (errno.EXDEV, False)])
    def test_what_cannot_be_moved_is_emptied(self, root, monkeypatch, code, stays):
        """The root of a disk, which stays; a folder that came with a container's image."""
        put_environment(root)

        def refuse(path, *place):
            raise OSError(code, os.strerror(code), str(path))

        monkeypatch.setattr("os.replace", refuse)
        if stays:
            monkeypatch.setattr("pathlib.Path.rmdir", refuse)
        assert remove(Environment(root)) is True
        assert root.exists() == stays and not list(root.glob("*"))
        assert remove(Environment(root)) is False

    def test_one_that_was_emptied_in_part_is_still_ours(self, root, monkeypatch):
        put_environment(root)

        def interrupt(folder, *, but):
            assert but == OWNER_FILE
            raise KeyboardInterrupt

        def refuse(path, place):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

        monkeypatch.setattr("os.replace", refuse)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("backend.removal.empty", interrupt)
            remove(Environment(root))
        assert remove(Environment(root)) is True

    def test_what_cannot_be_deleted_is_told(self, root, monkeypatch):
        put_environment(root)
        monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)
        with pytest.raises(SetupError, match=r"Not all of .* could be removed: .*\.env-removed-\d+ is left"):
            remove(Environment(root))

    def test_not_while_it_is_being_installed(self, root):
        put_environment(root)
        with installer_lock(root, None), pytest.raises(SetupError, match="Another process"):
            remove(Environment(root))
