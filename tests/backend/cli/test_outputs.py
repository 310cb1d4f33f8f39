"""What would fail when the result is written is found before work starts."""

from __future__ import annotations

import sys

import pytest

from backend import machine, preflight
from backend.errors import OutputError, PromptError, ResourceError


class TestPreflight:
    @pytest.mark.parametrize("text", ["a red cat", "ein roter Käfer", "赤い猫", "a cat 🐈‍⬛ with a hat"])
    def test_text_is_text_in_any_language(self, text):
        preflight.check_prompt(text)

    def test_longest(self):
        preflight.check_prompt("a" * preflight.LONGEST_PROMPT)
        with pytest.raises(PromptError):
            preflight.check_prompt("a" * (preflight.LONGEST_PROMPT + 1))

    def test_an_unknown_amount_of_memory_is_enough(self, monkeypatch):
        monkeypatch.setattr(machine, "memory", lambda: (None, None))
        preflight.check_memory("high", builtin_prior=False)

    def test_boundaries(self, monkeypatch, tmp_path):
        monkeypatch.setattr(machine, "memory", lambda: (None, int(preflight.MEMORY_BYTES["draft"])))
        preflight.check_memory("draft", builtin_prior=True)
        with pytest.raises(ResourceError):
            preflight.check_memory("normal", builtin_prior=True)
        monkeypatch.setattr(machine, "free_disk", lambda path: 100)
        preflight.check_disk(tmp_path, 100)
        with pytest.raises(ResourceError):
            preflight.check_disk(tmp_path, 101)

    def test_checking_leaves_no_trace(self, tmp_path):
        preflight.check_writable(tmp_path / "not" / "yet" / "there")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("companion", ["cat.mtl", "cat.png"])
def test_the_files_beside_an_obj_are_not_replaced_unasked(tmp_path, companion):
    (tmp_path / companion).write_text("mine")
    with pytest.raises(OutputError, match=companion):
        preflight.check_output(tmp_path / "cat.obj", overwrite=False)
    preflight.check_output(tmp_path / "cat.obj", overwrite=True)
    preflight.check_output(tmp_path / "cat.glb", overwrite=False)


def test_a_folder_in_the_place_of_a_file_beside_an_obj_is_not_found_at_the_end_of_the_run(tmp_path):
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(OutputError, match=r"cat\.png, which comes with cat\.obj, is a folder"):
        preflight.check_output(tmp_path / "cat.obj", overwrite=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_an_output_that_is_a_link_is_checked_where_it_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cat.glb").symlink_to(tmp_path / "elsewhere" / "real.glb")
    preflight.check_output(tmp_path / "cat.glb", overwrite=False)
    (tmp_path / "elsewhere").rmdir()
    with pytest.raises(OutputError, match=r"There is no folder .*elsewhere"):
        preflight.check_output(tmp_path / "cat.glb", overwrite=True)
