"""Every panel, menu, list and dialog of the extension, drawn in every state that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import blf
import bpy
import numpy as np
import pytest

from tests.blender.layouts import Drawer, Drawn, Layout, draw, drawn_classes, is_shown, panel_context

ops = bpy.ops.cograd3d


@pytest.fixture
def chosen(addon):
    """The scene's settings."""
    return bpy.context.scene.cograd3d


@pytest.fixture
def everything(addon) -> Callable[[], dict[str, Drawn]]:
    """Draw all that is shown now, by the name of its class without the prefix."""

    def everything() -> dict[str, Drawn]:
        kinds = drawn_classes(addon.__name__)
        assert len(kinds) > 20
        return {name.removeprefix("COGRAD3D_"): draw(kind) for name, kind in kinds.items() if is_shown(kind)}

    return everything


@pytest.fixture
def ready(fake_worker, addon_module):
    """An environment that workers can run in; their runs go on and on."""
    fake_worker("long")
    addon_module("setup").supervisor.refresh()


@pytest.fixture
def pictures(addon_module) -> Iterator[list[tuple[str, int]]]:
    """Give every picture an icon, which there is none of without a window; the files that are asked for, and their versions."""
    asked: list[tuple[str, int]] = []

    def icon(path: Path, version: int, *, part: str = "") -> int:
        asked.append((path.name, version))
        return len(asked)

    def drawn(self: object, name: str, key: object, size: int, make: Callable[[], np.ndarray]) -> int:
        assert np.shape(make()) == (size, size, 4)
        return 1

    with pytest.MonkeyPatch.context() as patch:  # undone before the extension is disabled
        patch.setattr(addon_module("ui.icons"), "icon", icon)
        patch.setattr(addon_module("ui.regions")._Pictures, "drawn", drawn)
        patch.setattr(addon_module("ui.regions")._Pictures, "file", lambda self, name, path: 1)
        yield asked


def test_everything_is_drawn_at_once(everything, ordered, asset, addon, pump):
    """A job runs, a view is selected, and the active object was made by another job: nothing that is registered is left out."""
    job = ordered("long")
    pump(lambda: job.regions is not None, what="a grid")
    ops.region_step(to="WORST")
    assert {f"COGRAD3D_{name}" for name in everything()} == set(drawn_classes(addon.__name__))


class TestWhatToMake:
    def test_without_an_environment(self, everything, monkeypatch, addon_module, tmp_path):
        monkeypatch.delenv("COGRAD3D_PYTHON", raising=False)
        monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "none"))
        addon_module("setup").supervisor.refresh()
        main = everything()["PT_main"]
        assert "not installed yet" in main.text and "generate" in main.operators

    def test_ready(self, everything, ready, chosen):
        drawn = everything()
        main = drawn["PT_main"]
        assert {"prompt", "negative_prompt", "quality", "seed"} <= set(main.properties)
        assert {"generate", "roll_seed"} <= set(main.operators)
        assert {"COGRAD3D_MT_prompts", "COGRAD3D_MT_words", "COGRAD3D_PT_presets"} <= set(main.menus)
        assert not {"PT_running", "PT_views", "PT_selected_view", "PT_result"} & drawn.keys()
        assert "None yet" in drawn["PT_jobs"].text

    def test_an_unknown_word_has_buttons_for_the_words_near_it(self, everything, ready, chosen):
        chosen.prompt = "a red catt"
        main = everything()["PT_main"]
        assert "“catt”" in main.text
        assert set(main.values("replace_word", "word")) == {"catt"}
        assert "cat" in main.values("replace_word", "by") and set(main.values("replace_word", "by")) <= set(main.texts)

    def test_too_long_a_prompt(self, everything, ready, chosen, addon_module):
        chosen.prompt = "cat " * addon_module("..backend.preflight").LONGEST_PROMPT
        assert "characters" in everything()["PT_main"].text

    def test_why_generate_is_grey(self, everything, ready, chosen):
        chosen.prompt, chosen.prior_source = "a cat", "FOLDER"
        assert "folder" in everything()["PT_main"].text

    @pytest.mark.parametrize("is_online", [False, True])
    @pytest.mark.parametrize("downloads", [False, True])
    def test_image_models(self, everything, ready, chosen, is_online, downloads):
        shown = {
            "BUILTIN": set(),
            "EXACT": set(),
            "FOLDER": {"prior_path"},
            "FILE": {"prior_file", "allow_download"},
            "HUB": {"prior_hub", "allow_download"},
        }
        assert shown.keys() == {item.identifier for item in chosen.bl_rna.properties["prior_source"].enum_items}
        bpy.context.preferences.system.use_online_access = is_online
        chosen.allow_download = downloads
        try:
            for source, properties in shown.items():
                chosen.prior_source = source
                drawn = everything()["PT_prior"]
                assert set(drawn.properties) == properties and "COGRAD3D_MT_models" in drawn.menus
                assert ("allow_online_access" in drawn.operators) == (source in ("FILE", "HUB") and not is_online)
        finally:
            bpy.context.preferences.system.use_online_access = False

    def test_size_and_place(self, everything, ready, chosen):
        at_first = everything()["PT_result_options"]
        assert {"fit_object", "height", "import_when_done", "faces", "texture_size"} == set(at_first.properties)
        assert "at this quality" in at_first.text
        chosen.faces, chosen.texture_size = 3000, "512"
        assert "at this quality" not in everything()["PT_result_options"].text

    def test_start_from(self, everything, ready, chosen):
        assert everything()["PT_first_shape"].properties == ["initial_source"]
        chosen.initial_source = "SELECTED"
        assert "Select the object to start from" in everything()["PT_first_shape"].text
        bpy.ops.mesh.primitive_cube_add()
        drawn = everything()["PT_first_shape"]
        assert drawn.texts.count(bpy.context.object.name) == 2, "in the header, which is seen when it is folded, and below"

    def test_words(self, everything, addon_module):
        known = [word for _, words in addon_module("settings.words").MENU for word in words]
        assert everything()["MT_words"].values("use_word", "word") == known

    def test_earlier_prompts(self, everything, prompts):
        assert everything()["MT_prompts"].texts == ["None yet"]
        long = "a cat " * 20 + "and an owl"
        prompts().add("an owl")
        prompts().add(long)
        drawn = everything()["MT_prompts"]
        assert drawn.values("use_prompt", "prompt") == [long, "an owl"] and len(drawn.texts[0]) <= 60
        assert drawn.operators[-1] == "clear_prompts"

    def test_presets(self, everything):
        ops.preset_add(name="Mine")
        try:
            drawn = everything()["PT_presets"]
            assert "Mine" in drawn.texts and {"script.execute_preset", "preset_add"} <= set(drawn.operators)
        finally:
            ops.preset_add(name="Mine", remove_name=True)
        assert "Mine" not in everything()["PT_presets"].texts


class TestAdvanced:
    def test_every_setting_has_a_control(self, everything, addon_module):
        drawn = everything()
        for section, controls in addon_module("settings.controls").sections().items():
            # Where a number is left open, its checkbox stands for it.
            special = addon_module("properties").special_name
            shown = set(drawn[f"PT_section_{section}"].properties)
            assert all({control.name, special(control)} & shown for control in controls), section

    def test_what_is_left_open_and_what_is_not(self, everything, chosen, addon_module):
        special = addon_module("properties").special_name
        controls = [control for control in addon_module("settings.controls").controls().values() if control.special_label]
        assert len(controls) > 3
        for is_open in (True, False):
            for control in controls:
                setattr(getattr(chosen.advanced, control.section), special(control), is_open)
            drawn = everything()
            for control in controls:
                shown = drawn[f"PT_section_{control.section}"].properties
                assert special(control) in shown and (control.name in shown) != is_open, control.path

    def test_changes_are_counted_and_can_be_taken_back(self, everything, chosen):
        chosen.advanced.optimizer.views = 7
        drawn = everything()
        assert drawn["PT_advanced"].values("reset_setting", "setting") == [""]
        assert drawn["PT_section_optimizer"].values("reset_setting", "setting") == ["optimizer.views"]
        assert "1 changed" in drawn["PT_advanced"].texts and "1 changed" in drawn["PT_section_optimizer"].texts
        assert "1 changed" not in drawn["PT_section_grid"].texts

    def test_what_is_wrong_is_said_where_it_is(self, everything, chosen):
        chosen.overrides = '{"optimizer.views": 999}'
        drawn = everything()
        assert "at most 64" in drawn["PT_section_optimizer"].text and "at most 64" not in drawn["PT_section_grid"].text


class TestJob:
    def test_waiting(self, everything, ordered, session):
        running = ordered("long")
        ops.generate()
        ops.generate()
        drawn = everything()["PT_running"]
        assert "Waits for 2 jobs" in drawn.texts and drawn.operators == ["show_running", "cancel"]
        assert "Queued" in drawn.texts
        session.select_job(session.manager().queued[0].id)
        assert "Waits for the running job" in everything()["PT_running"].texts
        session.select_job(running.id)

    def test_running(self, everything, ordered, pump, pictures, addon_module):
        job = ordered("long")
        pump(lambda: job.status.value == "running", what="the run")
        drawn = everything()["PT_running"]
        assert drawn.operators == ["pause", "cancel", "stop"] and not drawn.icons, "there is no picture yet"
        assert any(f"of {job.progress.total}" in text for text in drawn.texts)
        job.preview = addon_module("..backend.protocol").PreviewReady(iteration=30, image="preview.png")
        assert everything()["PT_running"].icons and pictures[-1] == ("preview.png", 30)

    def test_paused(self, everything, ordered, pump):
        job = ordered("long")
        ops.pause()
        assert "Pausing after this step..." in everything()["PT_running"].texts
        pump(lambda: job.status.value == "paused", what="the pause")
        assert everything()["PT_running"].operators == ["resume", "cancel", "stop"]

    def test_ending(self, everything, ordered):
        ordered("long")
        ops.cancel()
        assert "Ending: saving its state..." in everything()["PT_running"].texts

    def test_cancelled(self, everything, ordered, pump):
        job = ordered("long")
        pump(lambda: job.progress.iteration > 3, what="some steps")
        ops.cancel()
        pump(lambda: job.status.is_over, what="the end")
        assert f"Continue from Step {job.checkpoint}" in everything()["PT_running"].texts

    def test_finished(self, everything, ordered, pump):
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        drawn = everything()
        assert drawn["PT_running"].values("import_result", "job") == [job.id]
        assert {"import_result", "resume", "open_job_folder", "discard_job", "copy_settings", "reproduce"} <= set(
            drawn["PT_jobs"].operators
        )
        assert {"retry_seed", "retry_lower", "open_log", "discard_job"} <= set(drawn["MT_job"].operators)

    def test_failed(self, everything, ordered, pump):
        job = ordered("refused")
        pump(lambda: job.status.is_over, what="the end")
        drawn = everything()["PT_running"]
        assert "There is no prior here." in drawn.text and "Put one there." in drawn.text
        assert drawn.operators[0] == "choose_prior"

    @pytest.mark.parametrize("is_resumable", [True, False])
    def test_every_error_has_its_buttons(self, ordered, pump, addon_module, is_resumable):
        job = ordered("refused")
        pump(lambda: job.status.is_over, what="the end")
        job.is_damaged = not is_resumable
        remedies, errors = addon_module("settings.remedies"), addon_module("ui.errors")
        failure = addon_module("..backend.protocol").Failure
        for code in (*remedies.REMEDIES, "never heard of"):
            drawn = Drawn()
            errors.draw_failure(Layout(drawn), panel_context(), job, failure(code=code, message="It broke.", remedy="Mend it."))
            assert "It broke." in drawn.texts and "Mend it." in drawn.texts
            assert drawn.buttons, f"{code} has no button"
            for idname, button in drawn.buttons:
                takes_job = any(action.operator == idname and action.needs_job for action in remedies.Action)
                assert button.values == ({"job": job.id} if takes_job else {}), idname

    def test_every_refusal_of_the_panel_has_its_buttons(self, chosen, addon_module):
        """What was wrong before there was a job."""
        remedies, errors = addon_module("settings.remedies"), addon_module("ui.errors")
        kinds = addon_module("..backend.errors")
        by_code = {kind.code: kind for kind in vars(kinds).values() if isinstance(kind, type) and issubclass(kind, kinds.CoGradError)}
        for code, actions in remedies.IN_PANEL.items():
            drawn = Drawn()
            errors.draw_refusal(Layout(drawn), panel_context(), by_code[code]("It cannot work.", remedy="Mend it."))
            assert drawn.texts[:2] == ["It cannot work.", "Mend it."]
            assert [idname for idname, _ in drawn.buttons] == [action.operator for action in actions]
            assert not any(button.values for _, button in drawn.buttons)

    def test_notices(self, everything, ordered, addon_module):
        job = ordered("long")
        job.tell(addon_module("..backend.protocol").Notice(message="It is slow.", remedy="Wait."))
        assert "It is slow. Wait." in everything()["PT_running"].text


class TestList:
    @pytest.fixture
    def jobs(self, ordered, pump, addon_module):
        """The list's class and its two jobs, the newer one running."""
        done = ordered("quick")
        pump(lambda: done.status.is_over, what="the end")
        running = ordered("long")
        addon_module("ui.jobs").sync()
        return addon_module("ui.jobs"), done, running

    def draw_item(self, module, item) -> Drawn:
        drawn = Drawn()
        interface = bpy.context.window_manager.cograd3d
        drawer = Drawer(module.COGRAD3D_UL_jobs, drawn)
        drawer.draw_item(panel_context(), drawer.layout, interface, item, 0, interface, "active_job")
        return drawn

    def test_items_of_every_status(self, jobs, addon_module):
        module, done, _ = jobs
        item = bpy.context.window_manager.cograd3d.jobs[done.id]
        for done.status in addon_module("jobs").JobStatus:
            assert done.spec.prompt in self.draw_item(module, item).texts

    def test_items_have_pictures(self, jobs, pictures):
        module, done, _ = jobs
        drawn = self.draw_item(module, bpy.context.window_manager.cograd3d.jobs[done.id])
        assert drawn.icons and pictures[-1][0] == done.folder.preview_image_path.name

    def test_filter(self, jobs):
        module, done, running = jobs
        interface = bpy.context.window_manager.cograd3d
        drawer = Drawer(module.COGRAD3D_UL_jobs, Drawn(), filter_name="", bitflag_filter_item=1)

        def shown() -> set[str]:
            flags, _ = drawer.filter_items(bpy.context, interface, "jobs")
            return {item.name for item, flag in zip(interface.jobs, flags) if flag}

        for wanted, expected in {
            "ALL": {done.id, running.id}, "ACTIVE": {running.id}, "FINISHED": {done.id}, "UNFINISHED": set(),
        }.items():  # fmt: skip
            interface.job_filter = wanted
            assert shown() == expected
        interface.job_filter = "ALL"
        drawer.filter_name = "OWL"
        assert shown() == set()
        drawn = Drawn()
        drawer.draw_filter(bpy.context, Layout(drawn))
        assert drawn.properties == ["filter_name", "job_filter"]


class TestViews:
    def test_the_worst_are_on_top(self, everything, asset, addon_module):
        sources = addon_module("viewport.sources")
        for measure in addon_module("viewport.measures").MEASURES:
            bpy.context.window_manager.cograd3d.measure = measure.id
            view = sources.shown(bpy.context)
            listed = everything()["PT_views"].values("region_select", "region")
            assert len(listed) == 10
            assert listed == view.worst_first(measure)[:10].tolist()

    def test_a_finished_one_can_be_refined(self, everything, asset, pictures):
        ops.region_step(to="WORST")
        drawn = everything()["PT_selected_view"]
        assert "Refine This View" in drawn.texts and "region_weight" not in drawn.operators
        assert "Error over the steps; faint: the average" in drawn.texts and len(drawn.icons) == 1
        ops.region_select_all(action="LAGGING")
        drawn = everything()["PT_selected_view"]
        assert "Refine 9 Views" in drawn.texts and any(text.endswith(", and 8 more") for text in drawn.texts)

    def test_a_running_one_can_be_pushed(self, everything, chosen, ordered, pump):
        chosen.advanced.grid.fov = 40.0  # as the real worker settles it
        job = ordered("long")
        pump(lambda: job.regions is not None and job.fov is not None, what="a grid")
        marks = {"BOOST": "+", "CALM": "−", "FREEZE": "✕"}
        for region, action in enumerate(marks):
            ops.region_select(region=region)
            ops.region_weight(action=action)
        pump(lambda: job.regions and job.regions.weight == (4.0, 0.25, 0.0, 1.0), what="the worker's word")
        drawn = everything()
        assert drawn["PT_selected_view"].values("region_weight", "action") == [*marks, "RESET"]
        assert [sum(text.endswith(f" {mark}") for text in drawn["PT_views"].texts) for mark in marks.values()] == [1, 1, 1]

    @pytest.mark.parametrize("width", [250, 600])
    def test_a_view_has_picture_and_history(self, asset, addon_module, pictures, tmp_path, width):
        ops.region_step(to="WORST")
        with pytest.MonkeyPatch.context() as patch:  # undone before the extension is disabled
            patch.setattr(addon_module("viewport.grid_view").GridView, "picture", lambda view, region: tmp_path / "view.png")
            assert len(draw(addon_module("ui.regions").COGRAD3D_PT_selected_view, panel_context(width=width)).icons) == 2

    @pytest.mark.parametrize("left", ["selected", "unselected", "deleted"])
    def test_the_way_back_from_a_view_is_always_there(self, viewport, asset, pictures, addon_module, left):
        ops.region_step(to="WORST")
        ops.region_look_through()
        if left == "unselected":
            ops.region_select_all(action="NONE")
        elif left == "deleted":
            bpy.data.objects.remove(asset)
        kinds = [getattr(addon_module("ui.regions"), f"COGRAD3D_PT_{name}") for name in ("views", "selected_view")]
        drawn = [draw(kind) for kind in kinds if is_shown(kind)]
        assert sum(one.operators.count("region_look_back") for one in drawn) == 1
        ops.region_look_back()
        drawn = [draw(kind) for kind in kinds if is_shown(kind)]
        assert not any("region_look_back" in one.operators for one in drawn)
        assert bool(drawn) == (left != "deleted")

    def test_outside_object_mode_it_says_that_nothing_is_drawn(self, everything, asset):
        bpy.ops.object.mode_set(mode="EDIT")
        assert "Shown in object mode" in everything()["PT_views"].texts
        bpy.ops.object.mode_set(mode="OBJECT")


class TestObject:
    @pytest.mark.parametrize("prompt", ["赤い猫が窓辺に座って外を見ている、" * 5, "a red cat sits at the window " * 6])
    def test_a_long_prompt_is_not_cut_in_whatever_letters(self, asset, addon_module, prompt):
        asset["cograd3d"]["prompt"] = prompt
        context = panel_context(width=300)
        lines = draw(addon_module("ui.results").COGRAD3D_PT_result, context).texts
        blf.size(0, context.preferences.ui_styles[0].widget.points * (context.preferences.system.ui_scale or 1.0))
        told = [line for line in lines if line.strip() and line.strip() in prompt]
        assert "".join(told).replace(" ", "") == prompt.replace(" ", "")
        assert all(blf.dimensions(0, line)[0] < 300 for line in told)

    def test_facts_and_buttons(self, everything, asset):
        drawn = everything()["PT_result"]
        assert "a bronze monkey" in drawn.text and drawn.menus == ["COGRAD3D_MT_export"]
        assert drawn.operators == ["copy_object_settings", "reproduce_object", "show_views", "mark_asset"]

    def test_a_finished_job_can_take_its_place(self, everything, ordered, pump, asset):
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        assert "import_onto" in everything()["PT_result"].operators

    def test_formats(self, everything, addon_module):
        exporters = addon_module("importing.exporting").EXPORTERS
        drawn = everything()["MT_export"]
        assert set(drawn.values("export_result", "format")) == {name for name, exporter in exporters.items() if exporter.find() is not None}


class TestDialogs:
    def test_image_model(self, addon_module):
        assert "COGRAD3D_MT_models" in draw(addon_module("operators.generate").COGRAD3D_OT_choose_prior).menus

    @pytest.fixture
    def absent(self, addon_module, monkeypatch, tmp_path):
        """The supervisor of an environment that is to be installed."""
        monkeypatch.delenv("COGRAD3D_PYTHON", raising=False)
        monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "env"))
        supervisor = addon_module("setup").supervisor
        supervisor.refresh()
        bpy.context.preferences.system.use_online_access = True
        yield supervisor
        bpy.context.preferences.system.use_online_access = False

    @pytest.mark.parametrize("allow_cuda", [False, True])
    def test_the_plan_of_the_set_up(self, absent, addon_module, tmp_path, allow_cuda):
        kind = addon_module("operators.environment").COGRAD3D_OT_environment_setup
        drawn = draw(kind, allow_cuda=allow_cuda, planned_for=None)
        assert str(tmp_path / "env") in drawn.text and "About" in drawn.text and "needs the network" in drawn.text
        assert ("an NVIDIA GPU, and what else" in drawn.text) == (allow_cuda or bool(absent.gpus))
        assert ("allow_cuda" in drawn.properties) == (not absent.gpus)

    def test_a_set_up_that_cannot_be_done(self, absent, addon_module):
        error = addon_module("..backend.errors").SetupError("The disk is full.", remedy="Make room.")

        def refuse(options: object) -> None:
            raise error

        with pytest.MonkeyPatch.context() as patch:  # undone before the extension is disabled
            patch.setattr(absent, "plan", refuse)
            drawn = draw(addon_module("operators.environment").COGRAD3D_OT_environment_setup, allow_cuda=True, planned_for=None)
        assert "The disk is full. Make room." in drawn.text and drawn.properties == ["allow_cuda"]

    @pytest.mark.parametrize("region", [100, 1900])
    def test_what_is_long_is_broken_where_the_dialog_ends(self, region, absent, chosen, addon_module, monkeypatch):
        """In a dialog, the context's region is the one that it was opened from."""
        error = addon_module("..backend.errors").SetupError("That disk is too small." + " It is full." * 16, remedy="Make room.")

        def refuse(options: object) -> None:
            raise error

        context = panel_context(width=region)
        with monkeypatch.context() as patch:
            patch.setattr(absent, "plan", refuse)
            kind = addon_module("operators.environment").COGRAD3D_OT_environment_setup
            drawn = draw(kind, context, allow_cuda=True, planned_for=None)
        assert 50 < max(map(len, drawn.texts)) <= 440 / 7 and "full. Make room." in drawn.text
        chosen.prior_source, chosen.prior_hub, chosen.allow_download = "HUB", "owner/model", False
        drawn = draw(addon_module("operators.generate").COGRAD3D_OT_choose_prior, context)
        text = "Without this, only a model that is on this computer already works."
        assert text in drawn.text and 40 < max(len(line) for line in drawn.texts if line in text) <= 360 / 7


class TestPreferences:
    @pytest.mark.parametrize("scale", ["VIRIDIS", "CUSTOM"])
    def test_all_of_them(self, addon, installed, scale):
        preferences = bpy.context.preferences.addons[installed].preferences
        preferences.colour_scale = scale
        drawn = Drawn()
        try:
            values = {entry.identifier: getattr(preferences, entry.identifier) for entry in preferences.bl_rna.properties}
            Drawer(type(preferences), drawn, **values).draw(panel_context())
        finally:
            preferences.property_unset("colour_scale")
        own = {entry.identifier for entry in preferences.bl_rna.properties} - {"rna_type", "bl_idname"}
        assert own - set(drawn.properties) == (set() if scale == "CUSTOM" else {"colour_low", "colour_high"})
        assert {"environment_verify", "environment_repair", "environment_remove", "jobs_remove_all", "open_folder"} <= set(drawn.operators)
