"""Disk usage, counted in the background."""

import time

from cograd3d.cograd3d_addon.setup.disk import DiskUsage, folder_bytes


def test_counts_files_at_every_depth_and_no_links(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(bytes(100))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(23))
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a")
    link = (tmp_path / "elsewhere").lstat().st_size
    assert folder_bytes(tmp_path) == 123 + link
    assert folder_bytes(tmp_path / "absent") == 0
    assert folder_bytes(tmp_path, lambda: False) == 0


def test_counts_in_the_background_and_not_at_every_call(tmp_path):
    (tmp_path / "one").write_bytes(bytes(100))
    usage = DiskUsage()
    assert usage.get(tmp_path) is None
    usage.keep_counted([tmp_path])
    assert wait(usage, tmp_path) == 100
    (tmp_path / "two").write_bytes(bytes(11))
    usage.keep_counted([tmp_path])
    time.sleep(0.05)
    assert usage.get(tmp_path) == 100
    usage.outdated()
    usage.keep_counted([tmp_path])
    deadline = time.monotonic() + 10
    while usage.get(tmp_path) == 100 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert usage.get(tmp_path) == 111


def wait(usage, folder):
    deadline = time.monotonic() + 10
    while (size := usage.get(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return size
