"""Job folders made, opened, damaged, and from other versions."""

import json
import math
import os
import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import job
from backend.config import GenerationConfig
from backend.errors import JobError, OutputError
from backend.job import JobFolder, JobState, slug
from backend.protocol import JobSpec
from backend.settings import from_dict

from .folders import CONFIG


def test_a_new_folder_is_complete(tmp_path):
    spec = JobSpec(prompt="A réd cat, 2 m tall!", outputs=("/x/cat.glb",))
    made = JobFolder.create(tmp_path / "deep" / "jobs", spec, CONFIG)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-a-red-cat-2-m-tall-[0-9a-f]{6}", made.path.name)
    assert sorted(entry.name for entry in made.path.iterdir()) == ["config.json", "spec.json", "state.json"]
    opened = JobFolder.open(made.path)
    assert opened.spec == spec
    assert opened.config == CONFIG
    assert opened.state.status == "created"
    assert opened.state.created == opened.state.updated != ""


def test_settings_come_back_infinite_ones_too(tmp_path):
    config = GenerationConfig()
    config.gradient_fusion.cap = math.inf
    folder = JobFolder.create(tmp_path, JobSpec(prompt="x"), config)
    json.loads(folder.config_path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert from_dict(JobFolder.open(folder.path).config) == config


def test_text_that_is_no_unicode_comes_back(tmp_path):
    spec = JobSpec(prompt="a cat \udc80", outputs=(os.fsdecode(b"/x/\xff.glb"),))
    assert JobFolder.open(JobFolder.create(tmp_path, spec, CONFIG).path).spec == spec


def test_a_name_that_is_taken_is_not_given_again(tmp_path, monkeypatch):
    digits = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr("backend.job.secrets.token_hex", lambda count: next(digits) if count == 3 else "0" * 2 * count)
    first, second = (JobFolder.create(tmp_path, JobSpec(prompt="赤い猫"), {}) for _ in range(2))
    assert first.path.name.endswith("aaaaaa") and second.path.name.endswith("bbbbbb") and first.spec_path.is_file()


def test_two_jobs_of_one_prompt_are_two_folders(tmp_path):
    spec = JobSpec(prompt="a red cat")
    assert JobFolder.create(tmp_path, spec, CONFIG).path != JobFolder.create(tmp_path, spec, CONFIG).path


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red cat", "a-red-cat"),
        ("Ein Bär / ..\\x", "ein-bar-x"),
        ("赤い猫", "untitled"),
        ("", "untitled"),
        ("x" * 100, "x" * 32),
        ("a very long sentence about one red cat", "a-very-long-sentence-about-one"),
        ("one prompt of thirty two letters, then more", "one-prompt-of-thirty-two-letters"),
    ],
)
def test_slugs(prompt, expected):
    assert slug(prompt) == expected


@given(st.text())
def test_a_slug_is_always_a_file_name(prompt):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(prompt))
    assert len(slug(prompt)) <= 32


def test_the_root_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        JobFolder.create(tmp_path / "file" / "jobs", JobSpec(prompt="x"), CONFIG)


def test_no_folder_and_no_job_folder(tmp_path):
    with pytest.raises(JobError, match="There is no job folder"):
        JobFolder.open(tmp_path / "none")
    with pytest.raises(JobError, match=r"no spec\.json") as caught:
        JobFolder.open(tmp_path)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["spec.json", "config.json", "state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 10_000, b"null"])
def test_a_damaged_file_is_named(folder, name, content):
    (folder.path / name).write_bytes(content)
    with pytest.raises(JobError, match=re.escape(name)):
        JobFolder.open(folder.path)


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
def test_a_newer_version_is_refused(folder, name):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {"version": value["version"] + 1}))
    with pytest.raises(JobError, match="newer version") as caught:
        JobFolder.open(folder.path)
    assert "Update" in caught.value.remedy


@pytest.mark.parametrize(("name", "field"), [("spec.json", "prompt"), ("state.json", "iteration"), ("state.json", "error")])
def test_a_field_of_the_wrong_type_is_damage(folder, name, field):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {field: [1]}))
    with pytest.raises(JobError, match=re.escape(name)):
        JobFolder.open(folder.path)


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
@pytest.mark.parametrize("version", [None, "1", True])
def test_a_senseless_version_is_damage(folder, name, version):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {"version": version}))
    with pytest.raises(JobError, match="damaged"):
        JobFolder.open(folder.path)


def test_unknown_fields_of_a_state_are_ignored(folder):
    value = json.loads(folder.state_path.read_text())
    folder.state_path.write_text(json.dumps(value | {"mood": "good"}))
    assert JobFolder.open(folder.path).state.status == "created"


def test_state_changes_keep_the_rest(folder):
    folder.update_state(status="running", phase="optimise")
    folder.update_state(iteration=100, total=400)
    state = JobFolder.open(folder.path).state
    assert (state.status, state.phase, state.iteration, state.total, state.version) == ("running", "optimise", 100, 400, JobState.VERSION)


def test_pictures_of_regions_sort_by_their_number(folder):
    assert [folder.view_path(region).name for region in (0, 12, 123)] == ["region-000.png", "region-012.png", "region-123.png"]
    assert folder.view_path(0).parent == folder.path / "views"


def test_closing_a_folder_closes_its_files_and_it_can_be_written_again(folder):
    folder.append_trace({"iteration": 0})
    appender = folder._appenders["trace.jsonl"]
    folder.close()
    assert appender._file.closed
    folder.append_trace({"iteration": 1})
    assert [line["iteration"] for line in folder.read_trace()] == [0, 1]


def test_a_state_tells_when_it_was_changed(folder, monkeypatch):
    created = folder.state.created
    monkeypatch.setattr(job, "_now", lambda: "2126-05-04T03:02:01+00:00")
    folder.update_state(status="running")
    assert (folder.state.created, folder.state.updated) == (created, "2126-05-04T03:02:01+00:00")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(folder):
    folder.path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        for action in (lambda: folder.lock().__enter__(), lambda: folder.append_trace({}), lambda: folder.write_checkpoint(1, {}, {})):
            with pytest.raises(OutputError, match="permission denied"):
                action()
    finally:
        folder.path.chmod(stat.S_IRWXU)


def test_what_is_set_aside_takes_the_next_free_name(folder):
    for number in range(2):
        folder.append_trace({"iteration": number})
        folder.set_aside(folder.trace_path)
    folder.set_aside(folder.trace_path)  # there is none
    assert [json.loads((folder.path / f"trace-{number}.jsonl").read_text()) for number in (1, 2)] == [{"iteration": 0}, {"iteration": 1}]
    assert not folder.trace_path.exists()
    assert list(folder.read_trace()) == []
