"""What the panel's buttons do to what was chosen, and what Generate makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest

from tests.blender.refusals import why_grey

ops = bpy.ops.cograd3d


@pytest.fixture
def chosen(addon):
    """The scene's settings."""
    return bpy.context.scene.cograd3d


@pytest.fixture
def ready(fake_worker, addon_module):
    """An environment that workers can run in; their runs go on and on."""
    fake_worker("long")
    addon_module("setup").supervisor.refresh()


class TestWords:
    def test_a_word_replaces_an_unknown_one_with_its_article(self, chosen):
        chosen.prompt = "a crimson cat"
        ops.replace_word(word="crimson", by="orange")
        assert chosen.prompt == "an orange cat"

    def test_a_word_takes_the_place_of_its_kind(self, chosen):
        chosen.prompt = "a red cat"
        ops.use_word(word="dog")
        assert chosen.prompt == "a red dog"

    def test_a_word_begins_a_prompt(self, chosen):
        ops.use_word(word="owl")
        assert chosen.prompt == "an owl"

    def test_earlier_prompts(self, chosen, prompts, ready, session):
        assert "No prompt was used yet" in why_grey(ops.clear_prompts)
        for prompt in ("a red cat", "a blue owl"):
            chosen.prompt = prompt
            ops.generate()
        assert prompts().prompts == ("a blue owl", "a red cat")
        prompts.cache_clear()  # as after a restart
        assert prompts().prompts == ("a blue owl", "a red cat")
        ops.use_prompt(prompt="a red cat")
        assert chosen.prompt == "a red cat"
        ops.clear_prompts()
        prompts.cache_clear()
        assert prompts().prompts == ()


class TestSettings:
    def test_the_dice_gives_another_seed(self, chosen):
        seeds = set()
        for _ in range(5):
            ops.roll_seed()
            seeds.add(chosen.seed)
        assert len(seeds) > 1

    def test_a_change_can_be_taken_back(self, chosen):
        assert "No setting is changed" in why_grey(ops.reset_setting, setting="")
        chosen.advanced.optimizer.views = 7
        chosen.advanced.gradient_fusion.cap = 1.0
        chosen.advanced.gradient_fusion.start = 0.5
        assert json.loads(chosen.overrides) == {"optimizer.views": 7, "gradient_fusion.cap": 1.0, "gradient_fusion.start": 0.5}
        ops.reset_setting(setting="gradient_fusion")
        assert json.loads(chosen.overrides) == {"optimizer.views": 7}
        ops.reset_setting(setting="optimizer.views")
        assert chosen.overrides == "" and chosen.advanced.optimizer.views == 4

    def test_presets_keep_everything_but_prompt_and_seed(self, chosen):
        chosen.prompt, chosen.seed, chosen.quality = "a red cat", 5, "high"
        chosen.negative_prompt, chosen.advanced.optimizer.views = "blurry", 7
        ops.preset_add(name="Mine")
        path = bpy.utils.preset_find("Mine", "cograd3d") or next(
            f"{folder}/{name}" for folder in bpy.utils.preset_paths("cograd3d") for name in ("mine.py", "Mine.py")
        )
        chosen.prompt, chosen.seed, chosen.quality, chosen.negative_prompt, chosen.overrides = "an owl", 6, "draft", "", ""
        bpy.ops.script.execute_preset(filepath=path, menu_idname="COGRAD3D_PT_presets")
        assert (chosen.prompt, chosen.seed) == ("an owl", 6)
        assert (chosen.quality, chosen.negative_prompt, chosen.advanced.optimizer.views) == ("high", "blurry", 7)
        ops.preset_add(name="Mine", remove_name=True)
        assert bpy.utils.preset_find("Mine", "cograd3d") is None

    def test_the_image_model_is_chosen_in_a_dialog(self, addon):
        assert ops.choose_prior() == {"FINISHED"}


class TestGenerate:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"prompt": ""}, "Say what to make"),
            ({"prompt": "a red submarine"}, "submarine"),
            ({"prompt": "a red cat", "initial_source": "SELECTED"}, "elect"),
            ({"prompt": "a red cat", "prior_source": "FOLDER"}, "model"),
            ({"prompt": "a red cat", "overrides": '{"optimizer.views": 999}'}, "at most 64"),
        ],
    )
    def test_it_says_what_is_missing(self, chosen, ready, changes, says):
        for name, value in changes.items():
            setattr(chosen, name, value)
        assert says in why_grey(ops.generate)

    def test_without_an_environment_it_says_so(self, chosen, addon_module, monkeypatch):
        monkeypatch.delenv("COGRAD3D_PYTHON", raising=False)
        monkeypatch.delenv("COGRAD3D_ENV", raising=False)
        addon_module("setup").supervisor.refresh()
        chosen.prompt = "a red cat"
        assert "not installed yet" in why_grey(ops.generate)

    def test_what_was_chosen_is_what_is_ordered(self, chosen, ready, session, pump):
        chosen.prompt, chosen.negative_prompt, chosen.seed, chosen.quality = "a striped orange cat", "a dog", 12, "draft"
        chosen.faces, chosen.texture_size, chosen.advanced.optimizer.views = 3000, "512", 2
        assert ops.generate() == {"FINISHED"}
        (job,) = session.manager().jobs
        assert session.selected_job() is job
        pump(lambda: job.status.value == "running", what="the run")
        spec, config = job.spec, json.loads((job.path / "config.json").read_text(encoding="utf-8"))
        assert (spec.prompt, spec.negative_prompt, spec.quality) == ("a striped orange cat", "a dog", "draft")
        assert config["run"]["seed"] == 12 and config["optimizer"]["views"] == 2
        assert config["surface"]["faces"] == 3000 and config["texture"]["size"] == 512

    def test_it_starts_from_the_selected_object_as_it_is_shown(self, chosen, ready, session):
        bpy.ops.mesh.primitive_cube_add(size=2.0)
        bpy.context.object.modifiers.new("Bevel", "BEVEL").segments = 2
        chosen.prompt, chosen.initial_source = "a red cat", "SELECTED"
        ops.generate()
        (job,) = session.manager().jobs
        data = json.loads((job.path / "config.json").read_text(encoding="utf-8"))
        lines = Path(data["gaussians"]["initial"]).read_bytes()[:400].decode("ascii", errors="replace")
        count = int(lines.split("element vertex ")[1].split()[0])
        assert count > 8, "the modifier is applied"
