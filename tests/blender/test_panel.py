"""What the panel's buttons do to what was chosen, and what Generate makes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bpy
import pytest

from tests.blender.layouts import Drawn, Layout, draw, panel_context
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

    def test_a_schedule_is_a_number_or_points(self, chosen):
        guidance = chosen.advanced.guidance
        assert guidance.perp_neg_open and guidance.clamp_open
        guidance.perp_neg = "[0, 2], [1, 4]"
        guidance.clamp_open = False
        assert json.loads(chosen.overrides) == {"guidance.perp_neg": [[0, 2], [1, 4]], "guidance.clamp": 1.0}
        assert (guidance.perp_neg, guidance.clamp) == ("[0, 2], [1, 4]", "1")
        guidance.clamp, guidance.perp_neg = "2.5", "0"
        assert json.loads(chosen.overrides) == {"guidance.perp_neg": 0.0, "guidance.clamp": 2.5}
        guidance.clamp_open = guidance.perp_neg_open = True
        assert chosen.overrides == ""

    def test_a_schedule_that_cannot_be(self, chosen, ready):
        chosen.prompt, chosen.advanced.guidance.perp_neg = "a red cat", "a lot"
        assert "perp_neg" in why_grey(ops.generate)

    def test_every_method_has_a_name_and_a_line(self, chosen):
        items = chosen.bl_rna.properties["method"].enum_items
        assert {"cograd3d", "dreamfusion"} <= set(items.keys())
        assert all(item.name and len(item.description) > 20 for item in items)


class TestModels:
    def test_nobody_looks_where_nobody_sees(self, addon_module):
        """A render farm's Blender without a window leaves the disks alone."""
        assert bpy.app.background and not addon_module("settings.models").shelf.is_looking

    @pytest.fixture
    def shelf(self, addon_module, tmp_path, monkeypatch, pump):
        """What is found on this computer: nothing, and no GPU."""
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        shelf = addon_module("settings.models").shelf
        shelf.look()
        pump(lambda: not shelf.is_looking, what="the search's end")
        yield shelf
        pump(lambda: not shelf.is_looking, what="the search's end")

    @pytest.fixture
    def folder(self, tmp_path):
        """A folder as ComfyUI has it, with one model."""
        names = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x", "cond_stage_model.x")
        header = {name: {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 2]} for name in names}
        text = json.dumps(header).encode()
        file = tmp_path / "ComfyUI" / "models" / "checkpoints" / "dreams.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(2))
        return file.parents[2]

    def test_a_folder_is_named_once(self, shelf, folder, chosen, pump, addon_module):
        assert ops.model_folder_add(directory=f"{folder}/") == {"FINISHED"}
        pump(lambda: shelf.found.scan.models, what="the model")
        assert shelf.found.folders == (folder,)
        (model,) = shelf.found.scan.models
        ops.choose_model(source="FILE", value=model.name)
        assert (chosen.prior_source, chosen.prior_file, chosen.choices().prior()) == ("FILE", model.name, model.name)
        assert addon_module("settings.models").title_of(chosen.choices(), shelf.found) == "dreams"
        chosen.prompt = "a dinosaur"  # which the built-in model does not know
        assert chosen.choices().request()[1].prior.name == model.name
        ops.model_folder_remove(folder=str(folder))
        pump(lambda: not shelf.found.scan.models, what="the model's end")
        with pytest.raises(RuntimeError, match="not looked for"):
            ops.model_folder_remove(folder=str(folder))

    def test_no_folder(self, shelf):
        with pytest.raises(RuntimeError, match="No folder was chosen"):
            ops.model_folder_add()
        assert not shelf.is_looking

    def test_no_such_folder(self, shelf, tmp_path):
        with pytest.raises(RuntimeError, match="no folder"):
            ops.model_folder_add(directory=str(tmp_path / "nowhere"))

    def test_every_entry_of_the_menu_can_be_chosen(self, shelf, chosen, addon_module):
        models = addon_module("settings.models")
        operator = addon_module("operators.models").COGRAD3D_OT_choose_model
        for _, entries in models.menu(shelf.found):
            for entry in entries:
                assert ops.choose_model(source=entry.source, value=entry.value) == {"FINISHED"}
                assert models.chosen(chosen.choices(), shelf.found) == entry
                assert operator.description(bpy.context, entry).startswith(entry.about)

    def test_what_was_typed_stays(self, shelf, chosen):
        chosen.prior_source, chosen.prior_hub = "HUB", "owner/model"
        ops.choose_model(source="BUILTIN", value="")
        ops.choose_model(source="HUB", value="")
        assert chosen.prior_hub == "owner/model"
        ops.choose_model(source="HUB", value="stabilityai/stable-diffusion-xl-base-1.0")
        ops.choose_model(source="HUB", value="")
        assert chosen.prior_hub == ""

    def test_look_again(self, shelf, pump):
        assert ops.models_refresh() == {"FINISHED"}
        pump(lambda: not shelf.is_looking, what="the search's end")

    def test_a_gpu_without_a_model_is_spoken_of_once(self, shelf, chosen, ready, addon_module, monkeypatch, pump):
        main = addon_module("ui.main").COGRAD3D_PT_main
        assert "knows far more" not in draw(main).text
        answer = {"found": [], "left_out": {}, "complete": True, "looked_in": [""], "gpus": [{"name": "Big One", "memory": 24 * 2**30}]}
        monkeypatch.setattr(shelf, "command", lambda: [sys.executable, "-c", f"print({json.dumps(answer)!r})"])
        ops.models_refresh()
        pump(lambda: shelf.found.gpus, what="the GPU")
        drawn = draw(main)
        assert "knows far more" in drawn.text and "COGRAD3D_MT_models" in drawn.menus
        assert "(for this computer)" in draw(addon_module("ui.menus").COGRAD3D_MT_models).text
        ops.choose_model(source="HUB", value="stabilityai/stable-diffusion-xl-base-1.0")
        assert "knows far more" not in draw(main).text

    def test_what_is_to_be_fetched_is_said_before(self, shelf, chosen, addon_module):
        ops.choose_model(source="HUB", value="stabilityai/stable-diffusion-3.5-medium")
        drawn = draw(addon_module("ui.main").COGRAD3D_PT_prior)
        assert "Stability AI Community License" in drawn.text and "about 16 GB" in drawn.text
        assert drawn.properties == ["allow_download"]

    def test_the_preferences_list_the_folders(self, shelf, folder, addon_module, pump):
        ops.model_folder_add(directory=str(folder))
        pump(lambda: shelf.found.scan.models, what="the model")
        preferences = addon_module("package").preferences()
        drawn = Drawn()
        type(preferences)._draw_models(preferences, Layout(drawn), panel_context())
        assert "1 found" in drawn.text and drawn.values("model_folder_remove", "folder") == [str(folder)]


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
