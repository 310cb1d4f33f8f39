"""Files that are either whole or not there."""

import errno
import os
import stat
import time

import pytest

from backend import files
from backend.errors import OutputError
from backend.files import atomic_path, atomic_write_bytes, atomic_write_json, atomic_write_text


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_writes_what_it_was_given_and_leaves_nothing_else(tmp_path):
    atomic_write_bytes(tmp_path / "a", b"\x00\xff")
    atomic_write_text(tmp_path / "b", "é\r\n")
    atomic_write_json(tmp_path / "c", {"x": ["ü", 1]})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "é\r\n".encode()
    assert (tmp_path / "c").read_bytes() == '{\n  "x": [\n    "ü",\n    1\n  ]\n}\n'.encode()
    assert names(tmp_path) == ["a", "b", "c"]


def test_json_has_no_nan_and_the_old_file_stays(tmp_path):
    atomic_write_text(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "a", float("nan"))
    assert (tmp_path / "a").read_text() == "old"


def test_an_exception_in_the_block_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(KeyError), atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".png"
        assert files.is_temporary(temporary)
        raise KeyError
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "old"


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a").write_text("old")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_a_folder_appears_whole_and_replaces_a_folder(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / content).write_text(content)
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder" / "inner") == ["new"]


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="already has that name"):
        atomic_write_text(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic_write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError) as caught:
        atomic_write_text(tmp_path / "none" / "a", "x")
    assert str(tmp_path / "none") in caught.value.message
    assert "Create that folder" in caught.value.remedy


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is no folder"):
        atomic_write_text(tmp_path / "file" / "a", "x")


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_while_writing(tmp_path, monkeypatch, name):
    if not (code := getattr(errno, name, 0)):
        pytest.skip("no such error here")
    (tmp_path / "a").write_text("old")

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        atomic_write_text(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_write_that_the_system_refuses(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), atomic_path(tmp_path / "a"), open("/dev/full", "wb", buffering=0) as device:
        device.write(b"x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_forbidden_folder(tmp_path, monkeypatch, code):
    def forbidden(*_):
        raise OSError(code, os.strerror(code), str(tmp_path / "a"))

    monkeypatch.setattr(os, "replace", forbidden)
    with pytest.raises(OutputError, match="permission denied"):
        atomic_write_text(tmp_path / "a", "x")
    assert names(tmp_path) == []


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            atomic_write_text(tmp_path / "a", "x")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_an_error_about_the_folder_is_about_the_file_in_it(tmp_path, monkeypatch):
    def forbidden(directory):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(directory))

    monkeypatch.setattr(files, "_sync_directory", forbidden)
    with pytest.raises(OutputError, match="permission denied"):
        atomic_write_text(tmp_path / "a", "x")


def test_an_error_about_another_file_is_not_put_on_this_one(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "source").read_bytes()
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(OutputError), atomic_path(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot open folders")
def test_a_file_and_then_its_name_are_flushed(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    atomic_write_text(tmp_path / "a", "x")
    assert flushed == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_an_undurable_file_is_not_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("flushed"))
    atomic_write_text(tmp_path / "a", "x", durable=False)
    assert (tmp_path / "a").read_text() == "x"


class TestAReaderOnWindows:
    """There nobody can replace a file while it is read."""

    @pytest.fixture
    def read(self, monkeypatch):
        """Makes the next so many attempts to replace a file fail; returns a list that grows with each."""
        monkeypatch.setattr(files, "_READERS_LOCK", True)
        monkeypatch.setattr(files, "_READERS_SECONDS", 0.2)
        replace, attempts = os.replace, []

        def begin(times):
            def refuse(source, destination):
                attempts.append(destination)
                if len(attempts) <= times:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source), 5, str(destination))
                replace(source, destination)

            monkeypatch.setattr(os, "replace", refuse)
            return attempts

        return begin

    def test_is_waited_for(self, tmp_path, read):
        attempts = read(times=2)
        atomic_write_text(tmp_path / "a", "new")
        assert (tmp_path / "a").read_text() == "new"
        assert len(attempts) == 3

    def test_not_for_long(self, tmp_path, read):
        attempts = read(times=10**6)
        with pytest.raises(OutputError, match="permission denied"):
            atomic_write_text(tmp_path / "a", "new")
        assert 2 <= len(attempts) <= 20
        assert names(tmp_path) == []

    def test_not_elsewhere(self, tmp_path, read, monkeypatch):
        monkeypatch.setattr(files, "_READERS_LOCK", False)
        attempts = read(times=1)
        with pytest.raises(OutputError, match="permission denied"):
            atomic_write_text(tmp_path / "a", "new")
        assert len(attempts) == 1


def test_what_a_user_named_alike_is_no_leftover(tmp_path):
    long_ago = time.time() - 3600
    mine = [tmp_path / name for name in (".writing-drafts", ".writing-2026-notes.txt", ".writing-")]
    for path in (*mine, tmp_path / ".writing-0123456789ab.glb"):
        path.touch()
        os.utime(path, (long_ago, long_ago))
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in mine)
