"""Runs that are ordered again, and what keeps one from being ordered: the panel says it, with a button."""

from __future__ import annotations

import json

import bpy
import pytest

from tests.blender.refusals import why_grey

ops = bpy.ops.cograd3d if bpy else None


@pytest.fixture
def ready(fake_worker, addon_module):
    """An environment, as far as the panel knows; its workers do next to nothing."""
    fake_worker("quick")
    addon_module("setup").supervisor.refresh()


@pytest.fixture
def refinement(session, finished_job, addon_module):
    """A finished refinement of a finished job."""
    refine, files = addon_module("..backend.refinement").refine, addon_module("..backend.job")
    spec, config = refine(files.JobFolder.open(finished_job), [3, 4])
    folder = files.JobFolder.create(finished_job.parent, spec, addon_module("..backend.settings").to_dict(config))
    for name in ("asset.glb", "splats.ply", "regions.json"):
        (folder.path / name).write_bytes((finished_job / name).read_bytes())
    state = json.loads((finished_job / "state.json").read_text())
    (folder.path / "state.json").write_text(json.dumps(state))
    session.manager().scan()
    session.select_job(folder.path.name)
    return session.selected_job()


def test_another_seed_of_a_refinement_is_a_refinement(refinement, ready, session):
    ops.retry_seed()
    again = session.selected_job()
    assert again is not refinement and again.spec.refines == refinement.spec.refines
    one, other = again.folder.config, refinement.folder.config
    assert one["run"].pop("seed") != other["run"].pop("seed")
    assert one == other, "a refinement's settings are no preset's"


def test_a_refinement_at_lower_quality_is_a_run_of_its_own(refinement, ready, session):
    refinement.spec = type(refinement.spec)(**{**vars(refinement.spec), "quality": "normal"})
    ops.retry_lower()
    again = session.selected_job()
    assert (again.spec.refines, again.spec.initial, again.spec.quality) == ("", "", "draft")
    assert again.folder.config["gaussians"]["initial"] == "blob"


def test_what_is_reproduced_replaces_nothing(refinement, ready, session):
    bpy.ops.cograd3d.import_result(job=refinement.id)
    ops.reproduce_object()
    assert session.selected_job().spec.refines == ""


def test_a_refinement_in_the_panel_is_what_it_refines(refinement, session):
    ops.copy_settings()
    chosen = bpy.context.scene.cograd3d
    assert (chosen.prompt, chosen.quality, chosen.overrides) == ("a golden teapot", "draft", "")


class TestConsent:
    """To fetch a model is allowed here, by the user, for one model: not by a file, a preset or an old job."""

    @pytest.fixture
    def downloading(self, session, ready, addon_module):
        """`downloading("a/b")`: the settings of a run that may fetch this model, as a job or a file holds them."""
        make_request = addon_module("..backend.request").make_request

        def downloading(model: str):
            return make_request("a cat", overrides={"prior.name": model, "prior.allow_download": True})

        yield downloading
        addon_module("settings.consent").allow("a/b", False)

    def test_it_does_not_come_with_a_request(self, downloading, addon_module):
        order = addon_module("operators.ordering").order
        assert not order(bpy.context, *downloading("a/b")).folder.config["prior"]["allow_download"]

    def test_it_is_for_one_model(self, downloading, addon_module):
        order, chosen = addon_module("operators.ordering").order, bpy.context.scene.cograd3d
        chosen.prior_source, chosen.prior_hub = "HUB", "a/b"
        chosen.allow_download = True
        assert order(bpy.context, *downloading("a/b")).folder.config["prior"]["allow_download"]
        assert not order(bpy.context, *downloading("c/d")).folder.config["prior"]["allow_download"]
        chosen.prior_hub = "c/d"
        assert not chosen.allow_download

    def test_it_is_for_one_file(self, session, ready, addon_module, tmp_path):
        """A file may lack what the hub has."""
        order, chosen = addon_module("operators.ordering").order, bpy.context.scene.cograd3d
        for name in ("a.safetensors", "b.safetensors"):
            (tmp_path / name).touch()
        chosen.prompt, chosen.prior_source, chosen.prior_file = "a cat", "FILE", f"{tmp_path}/../{tmp_path.name}/a.safetensors"
        assert not order(bpy.context, *chosen.choices().request()).folder.config["prior"]["allow_download"]
        chosen.allow_download = True
        assert order(bpy.context, *chosen.choices().request()).folder.config["prior"]["allow_download"]
        chosen.prior_file = str(tmp_path / "b.safetensors")
        assert not chosen.allow_download
        chosen.prior_source = "BUILTIN"
        assert not chosen.allow_download

    def test_it_counts_as_it_is_now_when_a_job_is_ordered_again_or_goes_on(self, downloading, addon_module, session, pump):
        order, consent = addon_module("operators.ordering").order, addon_module("settings.consent")
        bpy.context.scene.cograd3d.import_when_done = False  # these workers leave nothing
        job = order(bpy.context, *downloading("a/b"))

        def is_allowed() -> bool:
            pump(lambda: session.manager().get(job.id).status.is_over, what="the end")
            state = json.loads((job.path / "state.json").read_text())
            (job.path / "state.json").write_text(json.dumps(state | {"status": "interrupted"}))
            session.manager().scan()
            session.select_job(job.id)
            ops.resume()
            return session.manager().get(job.id).folder.config["prior"]["allow_download"]

        for allowed in (True, False):
            consent.allow("a/b", allowed)
            assert is_allowed() is allowed
            ops.reproduce(job=job.id)
            again = session.selected_job()
            assert again.id != job.id and again.folder.config["prior"]["allow_download"] is allowed
            pump(lambda: again.status.is_over, what="the end")  # noqa: B023

    def test_it_is_not_saved_with_the_file(self, downloading, addon_module, tmp_path):
        chosen = bpy.context.scene.cograd3d
        chosen.prior_source, chosen.prior_hub = "HUB", "a/b"
        chosen.allow_download = True
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
        addon_module("settings.consent").allow("a/b", False)
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
        assert bpy.context.scene.cograd3d.prior_hub == "a/b" and not bpy.context.scene.cograd3d.allow_download

    @pytest.mark.parametrize("online", [False, True])
    def test_no_worker_uses_a_network_that_blender_may_not(self, online, session):
        before = bpy.context.preferences.system.use_online_access
        bpy.context.preferences.system.use_online_access = online
        try:
            assert (session._environ().get("HF_HUB_OFFLINE") == "1") is not bpy.app.online_access
        finally:
            bpy.context.preferences.system.use_online_access = before


class TestRefused:
    @pytest.fixture
    def no_memory(self, ready, addon_module, monkeypatch):
        error = addon_module("..backend.errors").ResourceError("Too little memory.", remedy="Choose the draft quality.")

        def refuse(*_):
            raise error

        monkeypatch.setattr(addon_module("operators.ordering"), "check_request", refuse)
        chosen = bpy.context.scene.cograd3d
        chosen.prompt, chosen.quality = "a cat", "normal"
        with pytest.raises(RuntimeError, match="Too little memory"):
            ops.generate()

    def test_it_stays_to_be_read_until_something_else_is_asked_for(self, no_memory, addon_module):
        ordering = addon_module("operators.ordering")
        assert ordering.refused(bpy.context).message == "Too little memory."
        ops.lower_quality()
        assert bpy.context.scene.cograd3d.quality == "draft"
        assert ordering.refused(bpy.context) is None
        assert not ops.lower_quality.poll()

    def test_every_error_has_a_button_that_exists(self, no_memory, addon_module):
        remedies = addon_module("settings.remedies")
        for code in remedies.IN_PANEL:
            for action in remedies.panel_actions(code, "normal"):
                assert not action.needs_job
                assert getattr(ops, action.operator.partition(".")[2]).get_rna_type()

    def test_numbers_of_the_panel_are_checked_before(self, ready):
        chosen = bpy.context.scene.cograd3d
        chosen.prompt, chosen.faces = "a cat", 3
        assert not ops.generate.poll()
        with pytest.raises(RuntimeError, match="faces"):
            ops.generate()


class TestLinkedScene:
    """One of another file: nothing can be put into it."""

    @pytest.fixture
    def linked(self, ready, tmp_path):
        file = str(tmp_path / "library.blend")
        bpy.context.scene.name, bpy.context.scene.cograd3d.prompt = "There", "a red cat"
        bpy.ops.wm.save_as_mainfile(filepath=file)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        with bpy.data.libraries.load(file, link=True) as (_, here):
            here.scenes = ["There"]
        bpy.context.window.scene = here.scenes[0]

    def test_nothing_is_ordered_for_it(self, linked, session):
        assert "go to a scene of this file" in why_grey(ops.generate)
        assert session.manager().jobs == []

    def test_nor_ordered_again(self, linked, session, finished_job):
        session.manager().scan()
        session.select_job(finished_job.name)
        with pytest.raises(RuntimeError, match="go to a scene of this file"):
            ops.reproduce()
        assert len(session.manager().jobs) == 1


def test_import_is_grey_until_there_is_a_result(session, ready, addon_module):
    bpy.context.scene.cograd3d.prompt = "a cat"
    ops.generate()
    assert "wait until it is done" in why_grey(ops.import_result)
    with pytest.raises(RuntimeError, match="no result yet"):
        ops.import_result()
