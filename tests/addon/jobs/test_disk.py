"""Job folders of earlier sessions, whole and broken."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time

import pytest
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import JobSpec, Paused, PreviewReady, Progress, Regions, Result
from cograd3d.backend.wire import to_json
from cograd3d.cograd3d_addon.jobs import JobManager, JobStatus, disk, watch

from .conftest import wait_until


@pytest.fixture
def look(tmp_path):
    """A manager that has looked into the folder."""

    def look():
        manager = JobManager(tmp_path, lambda folder: [sys.executable, "-c", ""])
        manager.scan()
        return manager

    return look


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})


def regions(iteration, count=4):
    return Regions(iteration=iteration, azimuth=(0,) * count, elevation=(0,) * count, distance=(3,) * count, loss=(0.5,) * count)


@pytest.mark.parametrize(
    ("on_disk", "status"),
    [
        ("created", JobStatus.INTERRUPTED),
        ("running", JobStatus.INTERRUPTED),
        ("finished", JobStatus.FINISHED),
        ("cancelled", JobStatus.CANCELLED),
        ("interrupted", JobStatus.INTERRUPTED),
        ("failed", JobStatus.FAILED),
        ("of the future", JobStatus.INTERRUPTED),
    ],
)
def test_what_nobody_works_on(folder, look, on_disk, status):
    with folder.lock():
        folder.update_state(status=on_disk)
    (job,) = look().jobs
    assert job.status is status
    assert job.is_resumable == (status is not JobStatus.FINISHED)
    assert not job.folder.in_use


def test_what_was_told_is_found_again(folder, look):
    with folder.lock():
        for iteration in range(1, 40):
            folder.append_event(Progress(iteration=iteration, total=40))
            folder.append_event(regions(iteration, 200))
        folder.append_event(PreviewReady(iteration=30, image="preview.png"))
        folder.append_event(PreviewReady(iteration=31, image="views/region-003.png", region=3))
        folder.append_event(Result(asset="asset.glb", iterations=40))
        statistics = {"elevation": [1.0], "distance": [1.0], "loss": [1.0]}
        folder.regions_path.write_text(to_json({"type": "regions", "iteration": 39, "azimuth": [1.0], **statistics}))
        folder.update_state(status="finished", iteration=40)
    (job,) = look().jobs
    assert (job.progress.iteration, job.preview.iteration, job.views, job.result.iterations) == (39, 30, {3: 31}, 40)
    assert job.regions.iteration == 39


def test_files_stand_in_for_events_of_long_ago(folder, look):
    with folder.lock():
        folder.update_state(status="finished", iteration=40)
    folder.preview_image_path.write_bytes(b"png")
    folder.asset_path.write_bytes(b"glb")
    (job,) = look().jobs
    assert (job.preview.image, job.preview.splats) == ("preview.png", "")
    assert job.preview_splats is None
    assert job.asset_path == folder.asset_path
    assert job.result.iterations == 40


def test_a_torn_last_line(folder, look):
    with folder.lock():
        folder.append_event(Progress(iteration=1, total=40))
        folder.append_event(Paused(paused=True))
    with open(folder.events_path, "ab") as file:
        file.write(b'{"type": "progress", "iter')
    (job,) = look().jobs
    assert job.progress.iteration == 1


@pytest.mark.parametrize("name", ["spec.json", "config.json", "state.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 50_000, None])
def test_a_damaged_folder_is_shown_and_can_be_discarded(folder, look, name, text):
    if text is None:
        (folder.path / name).unlink()
    else:
        (folder.path / name).write_text(text)
    manager = look()
    if name == "spec.json" and text is None:  # no job folder at all
        assert manager.jobs == []
        return
    if name == "config.json" and text == "[]":
        assert manager.jobs[0].is_damaged
    (job,) = manager.jobs
    assert (job.status, job.is_damaged, job.is_resumable) == (JobStatus.FAILED, True, False)
    assert job.error.message
    assert job.error.remedy
    assert len(job.history) == 0
    manager.discard(job)
    assert not folder.path.exists()


def test_a_folder_of_a_newer_version(folder, look):
    state = json.loads(folder.state_path.read_text())
    folder.state_path.write_text(json.dumps(state | {"version": 99}))
    (job,) = look().jobs
    assert job.is_damaged
    assert "newer version" in job.error.message


def test_what_else_lies_there(tmp_path, look):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".writing-0123").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert look().jobs == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(folder, look):
    folder.path.chmod(0)
    try:
        assert all(job.is_damaged for job in look().jobs)
    finally:
        folder.path.chmod(0o755)


def test_the_newest_comes_first(tmp_path, look):
    made = []
    for second in (3, 1, 2):
        folder = JobFolder.create(tmp_path, JobSpec(prompt=f"cat {second}"), {})
        state = json.loads(folder.state_path.read_text())
        folder.state_path.write_text(json.dumps(state | {"created": f"2026-01-01T00:00:0{second}+00:00"}))
        made.append(folder.path.name)
    assert [job.id for job in look().jobs] == [made[0], made[2], made[1]]


def test_changes_from_outside_are_seen(tmp_path, folder, look):
    manager = look()
    version = manager.jobs[0].version
    other = JobFolder.open(folder.path)
    with other.lock():
        other.update_state(status="finished")
    manager.scan()
    assert manager.jobs[0].status is JobStatus.FINISHED
    assert manager.jobs[0].version > version
    shutil.rmtree(folder.path)
    manager.scan()
    assert manager.jobs == []


def test_one_folder_that_makes_us_stumble_hides_no_other(tmp_path, folder, look, monkeypatch):
    second = JobFolder.create(tmp_path, JobSpec(prompt="a blue dog"), {})
    read = disk.read_job
    monkeypatch.setattr(disk, "read_job", lambda path: 1 / 0 if path == second.path else read(path))
    assert [job.id for job in look().jobs] == [folder.path.name]


def test_what_was_not_deleted_to_the_end_is_deleted_later(tmp_path, folder, look):
    left = tmp_path / ".discarded-2020-01-01-a-red-cat-abcdef"
    shutil.copytree(folder.path, left)
    assert len(look().jobs) == 1
    wait_until(lambda: not left.exists(), 10.0, "the end of what was left")
    assert folder.path.exists()


def test_another_root(tmp_path, folder, look):
    manager = look()
    manager.root = tmp_path / "elsewhere"
    assert manager.jobs == []
    manager.scan()
    assert manager.jobs == []
    manager.root = tmp_path
    manager.scan()
    assert [job.id for job in manager.jobs] == [folder.path.name]


def test_many_folders_are_read_a_few_at_a_time(tmp_path):
    for number in range(30):
        JobFolder.create(tmp_path, JobSpec(prompt=f"cat {number}"), {})
    manager = JobManager(tmp_path, lambda folder: [])
    wait_until(lambda: manager.tick() or manager.is_busy, 5.0, "the first of them")
    assert manager.is_busy
    while manager.is_busy:
        manager.tick()
    assert len(manager.jobs) == 30


class TestListing:
    """Jobs may lie on another computer, which may not answer."""

    @pytest.fixture
    def server(self, monkeypatch, tmp_path):
        """One that answers nothing about `tmp_path` until it is `set`."""
        answers, listed = threading.Event(), watch.listed

        def wait(root):
            if root == tmp_path:
                answers.wait(20)
            return listed(root)

        monkeypatch.setattr(watch, "listed", wait)
        yield answers
        answers.set()

    @pytest.fixture
    def manager(self, tmp_path):
        return JobManager(tmp_path, lambda folder: [sys.executable, "-c", ""])

    def test_nobody_waits_for_it(self, server, manager, folder, tmp_path):
        began = time.monotonic()
        for _ in range(5):
            manager.tick()
        assert time.monotonic() - began < 5 and manager.jobs == []
        server.set()
        wait_until(lambda: manager.tick() and manager.jobs, 10, "the job")

    def test_another_folder_is_listed_meanwhile(self, server, manager, tmp_path):
        manager.tick()
        other = JobFolder.create(tmp_path / "other", JobSpec(prompt="a blue car"), {})
        manager.root = tmp_path / "other"
        wait_until(lambda: manager.tick() and manager.jobs, 10, "the job")
        assert [job.id for job in manager.jobs] == [other.path.name]

    def test_what_happens_meanwhile_counts(self, server, manager, folder):
        server.set()
        manager.scan()
        server.clear()
        manager.tick()
        (job,) = manager.jobs
        manager.resume(job)
        manager.cancel(job)
        new = manager.submit(JobSpec(prompt="a blue car"), {})
        manager.cancel(new)
        server.set()
        wait_until(lambda: manager._watch._listing is None or manager.tick(), 10, "the listing")
        for _ in range(3):
            manager.tick()
        assert {id(known) for known in manager.jobs} == {id(job), id(new)}
        assert {known.status for known in manager.jobs} == {JobStatus.CANCELLED}
