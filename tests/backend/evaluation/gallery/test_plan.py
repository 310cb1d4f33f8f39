"""The gallery's prompts and variants, its records, and how its runs are planned and done."""

import dataclasses
import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import settings
from backend.embedded import vocabulary, world
from backend.errors import InputError, PromptError, UsageError
from backend.evaluation.gallery import prompts, runs, variants
from backend.evaluation.gallery.records import Record, of_one_judge, read_records, write_records
from backend.evaluation.gallery.runs import Terms
from backend.evaluation.work_folders import job_in
from backend.files import is_temporary
from backend.guidance.load import load_prior
from backend.job import JobFolder
from backend.pipeline import pick_device
from backend.protocol import JobSpec

TINY = (
    *("prior.views=60", "optimizer.iterations=4", "optimizer.resolution_steps=[[0.0, 64]]", "densification.enabled=false"),
    *("surface.resolution=24", "surface.views=8", "surface.faces=300", "texture.size=64", "texture.views=6", "texture.refine=0"),
    "region_sampling.warmup_passes=0",
)


@pytest.fixture(scope="module")
def prior():
    return load_prior(settings.resolve("draft", sets=TINY).prior, pick_device("cpu"), seed=0)


def planned(prior, work, names=("cograd3d", "perpneg"), pairs=(("a red cat", 0), ("a blue car", 1)), sets=TINY):
    terms = Terms("builtin:exact", 1.0, "draft", tuple(sets))
    reference = variants.chosen(["cograd3d"])[0]
    return runs.plan(variants.chosen(names), pairs, terms, reference, prior, work)


class TestPrompts:
    def test_forty_of_the_world_with_pairs_that_training_never_shows(self):
        gallery = prompts.prompt_set("gallery")
        meant = [vocabulary.parse(prompt) for prompt in gallery]
        assert len(set(gallery)) == 40 and {d.object for d in meant} == set(vocabulary.OBJECTS)
        assert {d.material for d in meant} == {None, *vocabulary.MATERIALS}
        assert sum((d.object, d.colour) in vocabulary.HELD_OUT for d in meant) == 17

    def test_lists_and_what_they_are_for(self):
        gallery, quick, core, tuning = (set(prompts.prompt_set(name)) for name in ("gallery", "quick", "core", "tuning"))
        assert len(quick) == 8 and len(core) == 6 and core < quick < gallery
        assert tuning and not tuning & gallery, "settings are not chosen with what is reported"
        assert not {(vocabulary.parse(p).object, vocabulary.parse(p).colour) for p in tuning} & vocabulary.HELD_OUT

    def test_names_and_prompts_together(self):
        assert prompts.chosen(["a red cat", "quick", "a gray mug"])[:2] == ("a red cat", "a purple dog")
        assert len(prompts.chosen(["core", "quick"])) == 8


class TestVariants:
    def test_nine_methods_eight_combinations_and_the_control(self):
        assert len(variants.GROUPS["all"]) == 9
        ablations = variants.GROUPS["ablations"]
        assert len(ablations) == 9 and {frozenset(v.without) for v in ablations if v.method == "cograd3d"} == {
            frozenset(parts) for parts in ("", "A", "B", "C", "AB", "AC", "BC", "ABC")
        }

    @pytest.mark.parametrize("variant", variants.chosen(variants.GROUPS), ids=lambda variant: variant.name)
    def test_all_begin_alike(self, variant):
        config = variant.config("draft", [])
        assert config.gaussians == settings.resolve("draft", None).gaussians
        assert config.optimizer.iterations == settings.resolve("draft").optimizer.iterations

    def test_what_is_switched_off_is_off(self):
        config = variants.chosen(["w/o A, C"])[0].config("draft", [])
        assert not config.region_sampling.enabled and config.timestep_sampling.enabled and not config.gradient_fusion.enabled

    def test_settings_given_last_are_strongest(self):
        assert variants.chosen(["cograd3d: no cap"])[0].config("draft", ["gradient_fusion.cap=0.3"]).gradient_fusion.cap == 0.3

    def test_an_unknown_name_is_answered_with_the_nearest(self):
        with pytest.raises(UsageError, match="dreamfusion is near"):
            variants.chosen(["dreamfussion"])


def record(**values):
    known = {"variant": "cograd3d", "prompt": "a red cat", "seed": 0, "prior": "builtin:exact", "reliability": 0.3, "quality": "draft"}
    return Record(**(known | {"budget": 16, "fingerprint": "f", "iterations": 4, "predictions": 16} | values))


class TestRecords:
    @given(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
        st.integers(0, 2**40),
        st.floats(0, 1),
        st.lists(st.floats(-100, 100), max_size=12),
    )
    def test_come_back_as_they_were_written(self, prompt, seed, janus, angles):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "records.csv")
            write_records(path, [record(prompt=prompt, seed=seed, janus=janus, alignment_angles=tuple(angles))])
            (back,) = read_records(path)
        assert (back.prompt, back.seed) == (prompt, seed) and math.isnan(back.psnr)
        assert back.janus == pytest.approx(janus, rel=1e-5, abs=1e-9) and back.alignment_angles == pytest.approx(angles, rel=1e-5)

    def test_a_newer_one_replaces_its_like(self, tmp_path):
        path = tmp_path / "records.csv"
        write_records(path, [record(fingerprint="old", psnr=1.0), record(seed=1), record(fingerprint="new", psnr=2.0)])
        assert [(r.seed, r.fingerprint) for r in read_records(path)] == [(0, "new"), (1, "f")]

    def test_of_several_judges_the_busiest_is_heard(self):
        one, two, three = (record(seed=seed, judge=judge, alignment=80.0 + seed, psnr=20.0) for seed, judge in enumerate(("", "b", "b")))
        unjudged = record(seed=3, judge="")
        heard = of_one_judge([one, two, three, unjudged])
        assert math.isnan(heard[0].alignment) and heard[0].alignment_angles == () and heard[0].psnr == 20.0
        assert heard[1:3] == [two, three]
        assert of_one_judge([one, two])[0] == one, "the first of several"
        assert of_one_judge([two, unjudged]) == [two, unjudged]

    def test_each_score_has_judges_of_its_own(self):
        one, two = record(clip_b32=30.0, clip_b32_model="a"), record(seed=1, clip_b32=31.0, clip_b32_angles=(31.0,), clip_b32_model="b")
        first, second = of_one_judge(
            [dataclasses.replace(one, alignment=80.0, judge="x"), dataclasses.replace(two, alignment=81.0, judge="x")]
        )
        assert (first.clip_b32, first.alignment, second.alignment) == (30.0, 80.0, 81.0)
        assert math.isnan(second.clip_b32) and second.clip_b32_angles == ()

    def test_those_of_an_earlier_version_can_be_read(self, tmp_path):
        """They do not say which models gave the paper's scores."""
        path = tmp_path / "records.csv"
        write_records(path, [record(psnr=25.0)])
        rows = [line.split(",") for line in path.read_text().splitlines()]
        old = [at for at, name in enumerate(rows[0]) if not name.endswith("_model")]
        path.write_text("".join(",".join(row[at] for at in old) + "\n" for row in rows))
        (back,) = read_records(path)
        assert back.psnr == 25.0 and back.clip_b32_model == ""

    def test_none_where_there_is_no_file(self, tmp_path):
        assert read_records(tmp_path / "records.csv") == []

    def test_a_share_of_calls_comes_back_to_the_last_digit(self, tmp_path):
        """It is part of the key: rounded, what is done would be done again, beside itself."""
        for reliability in (1 / 3, 0.1 + 0.2, 0.3, 1.0):
            write_records(tmp_path / "records.csv", [record(reliability=reliability)])
            (back,) = read_records(tmp_path / "records.csv")
            assert back.key == record(reliability=reliability).key
        assert ",builtin:exact,1,draft," in (tmp_path / "records.csv").read_text("utf-8")

    def test_a_spreadsheets_mark_at_the_beginning_is_passed_over(self, tmp_path):
        write_records(tmp_path / "records.csv", [record()])
        (tmp_path / "records.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "records.csv").read_bytes())
        assert len(read_records(tmp_path / "records.csv")) == 1

    @pytest.mark.parametrize("text", [b"variant,prompt\na,b\n", b"x\n1\n", b"variant\nr\xe9d\n", b'variant\n"' + b"x" * 200_000 + b'"\n'])
    def test_another_file_is_refused(self, tmp_path, text):
        (tmp_path / "other.csv").write_bytes(text)
        with pytest.raises(InputError, match="no records"):
            read_records(tmp_path / "other.csv")

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no records"):
            read_records(tmp_path)

    def test_a_line_that_was_cut_off_is_refused(self, tmp_path):
        path = tmp_path / "records.csv"
        write_records(path, [record(psnr=20.0)])
        head, line = path.read_text("utf-8").splitlines()
        path.write_text(f"{head}\n{','.join(line.split(',')[: head.split(',').index('iou')])}\n", "utf-8")
        with pytest.raises(InputError, match="a line ends before its iou"):
            read_records(path)


class TestPlan:
    def test_the_same_number_of_predictions_for_everybody(self, prior, tmp_path):
        plan = planned(prior, tmp_path, [v.name for v in variants.GROUPS["all"]], sets=(*TINY, "optimizer.iterations=400"))
        by_name = {run.record.variant: run.record for run in plan}
        assert {r.budget for r in by_name.values()} == {1600} and len(plan) == 18
        for r in by_name.values():
            assert abs(r.predictions - 1600) <= 0.5 * r.predictions / r.iterations + 1
        assert by_name["cograd3d"].iterations == 400 and by_name["perpneg"].iterations < 200

    def test_runs_of_a_prompt_stand_together_and_differ_in_variant_and_seed_alone(self, prior, tmp_path):
        plan = planned(prior, tmp_path)
        assert [(r.record.prompt, r.record.variant) for r in plan[:2]] == [("a red cat", "cograd3d"), ("a red cat", "perpneg")]
        assert [r.config.run.seed for r in plan] == [0, 0, 1, 1] and len({r.folder for r in plan}) == 4
        assert plan[0].config.gaussians == plan[1].config.gaussians

    def test_prompts_that_differ_a_little_are_done_apart(self, prior, tmp_path):
        """Their slugs are the same, or the same as far as slugs go."""
        alike = ("a red cat", "A red cat!", "a-red-cat")
        long = ("a very detailed photograph of a red cat", "a very detailed photograph of a red car")
        plan = planned(prior, tmp_path, ["cograd3d"], pairs=[(prompt, 0) for prompt in (*alike, *long)])
        assert len({run.folder for run in plan}) == 5
        assert plan[0].folder.name == f"cograd3d-a-red-cat-0-{plan[0].record.fingerprint}"
        assert all(runs.name_of(prompt) == prompt.replace(" ", "-") for name in prompts.SETS for prompt in prompts.prompt_set(name))

    def test_a_fingerprint_tells_what_must_be_run_again(self, prior, tmp_path, monkeypatch):
        a, b = planned(prior, tmp_path)[0], planned(prior, tmp_path / "elsewhere")[0]
        assert a.record.fingerprint == b.record.fingerprint
        other = planned(prior, tmp_path, sets=(*TINY, "gradient_fusion.cap=0.4"))[0]
        assert other.record.fingerprint != a.record.fingerprint and other.record.key == a.record.key
        device = planned(prior, tmp_path, sets=(*TINY, "run.device=cpu"))[0]
        assert device.record.fingerprint == a.record.fingerprint
        with monkeypatch.context() as with_other_weights:
            with_other_weights.setattr(prior, "fingerprint", "of other weights")
            assert planned(prior, tmp_path)[0].record.fingerprint != a.record.fingerprint
        assert planned(prior, tmp_path)[0].record.fingerprint == a.record.fingerprint
        monkeypatch.setattr(runs, "MEASURES", runs.MEASURES + 1)
        assert planned(prior, tmp_path)[0].record.fingerprint != a.record.fingerprint

    @pytest.mark.parametrize(("rule", "own", "another"), [("sds", 0, 1), ("perp_neg", 1, 0)])
    def test_perp_negs_weight_counts_by_its_value_whoever_says_so(self, rule, own, another, prior, tmp_path):
        by_rule, same, other = (
            planned(prior, tmp_path, sets=(*TINY, f"guidance.rule={rule}", f"guidance.perp_neg={weight}"))[0].record.fingerprint
            for weight in ("auto", own, another)
        )
        assert same == by_rule != other

    def test_where_noise_ends_counts_by_its_value_whoever_says_so(self, prior, tmp_path):
        by_prior = planned(prior, tmp_path)[0].record.fingerprint
        same, other = (
            planned(prior, tmp_path, sets=(*TINY, f"timestep_sampling.end={end}"))[0].record.fingerprint
            for end in (prior.recommended.t_end, prior.recommended.t_end + 0.05)
        )
        assert same == by_prior != other

    def test_translucencys_weight_counts_by_its_value_whoever_says_so(self, prior, tmp_path):
        by_prior, same, other = (
            planned(prior, tmp_path, sets=(*TINY, f"optimizer.opacity_entropy={weight}"))[0].record.fingerprint
            for weight in ("auto", prior.recommended.opacity_entropy, 0.2)
        )
        assert same == by_prior != other

    def test_settings_of_what_is_off_need_no_new_run(self, prior, tmp_path):
        off = (*TINY, "gradient_fusion.enabled=false")
        assert len({planned(prior, tmp_path, sets=sets)[0].record.fingerprint for sets in (off, (*off, "gradient_fusion.cap=0.4"))}) == 1

    def test_prompts_without_a_true_object_are_refused(self, prior, tmp_path):
        with pytest.raises(PromptError):
            planned(prior, tmp_path, pairs=[("a submarine", 0)])

    def test_a_budget_that_is_no_iteration_is_refused(self, prior, tmp_path):
        with pytest.raises(UsageError, match="not enough for one iteration of hifa"):
            planned(prior, tmp_path, ["hifa"], sets=(*TINY, "optimizer.iterations=1"))


@pytest.fixture(scope="module")
def done(prior, tmp_path_factory):
    run = planned(prior, tmp_path_factory.mktemp("gallery"))[0]
    runs.prepare(run)
    assert runs.finished(run.folder) is None and job_in(run.folder) is None
    asked = []
    assert runs.perform(run.folder, lambda job, description: asked.append((job.path, description)) or {"psnr": 7.0}) == 0
    return run, asked


class TestRun:
    def test_its_record_has_what_was_measured(self, done):
        run, asked = done
        found = runs.finished(run.folder)
        assert dataclasses.replace(found, psnr=math.nan, seconds=math.nan, memory=math.nan).key == run.record.key
        assert found.psnr == 7.0 and 0 <= found.seconds < 300 and found.memory > 50 and math.isnan(found.ssim)
        assert asked == [(job_in(run.folder).path, vocabulary.parse("a red cat"))]
        assert "NaN" not in (run.folder / runs.RECORD_FILE).read_text(), "JSON has no NaN"

    def test_it_is_the_job_that_was_planned(self, done):
        run, _ = done
        job = job_in(run.folder)
        assert job.state.status == "finished" and job.asset_path.exists()
        assert len(list(job.read_trace())) == run.record.iterations

    def test_a_finished_job_is_measured_again_without_running(self, done):
        run, _ = done
        (run.folder / runs.RECORD_FILE).unlink()
        before = job_in(run.folder).events_path.read_bytes()
        assert runs.perform(run.folder, lambda job, description: {"psnr": 8.0}) == 0
        assert runs.finished(run.folder).psnr == 8.0 and job_in(run.folder).events_path.read_bytes() == before

    def test_measuring_again_forgets_nothing_that_was_measured_before(self, done):
        """Another score is asked for later, of a process that did not do the run."""
        run, _ = done
        runs.perform(run.folder, lambda job, description: {"psnr": 8.0})
        before = dataclasses.replace(runs.finished(run.folder), clip_b32=31.0, memory=1234.0)
        (run.folder / runs.RECORD_FILE).write_text(json.dumps(runs._plain(before)))
        assert runs.perform(run.folder, lambda job, description: {"psnr": 8.0, "vqa_score": 0.5}) == 0
        after = runs.finished(run.folder)
        assert (after.clip_b32, after.vqa_score, after.memory, after.key) == (31.0, 0.5, 1234.0, before.key)

    def test_what_was_left_of_a_beginning_is_no_job(self, done):
        run, _ = done
        job = job_in(run.folder)
        left = run.folder / ".writing-0123456789ab"
        left.mkdir()
        (left / "spec.json").write_bytes(job.spec_path.read_bytes())
        assert is_temporary(left) and job_in(run.folder).path == job.path

    def test_a_clock_that_was_set_back_tells_no_time(self, tmp_path):
        job = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})
        moments = ("2026-01-01T12:00:00+00:00", "2026-01-01T11:00:00+00:00")
        for name, moment in zip(("optimise", "surface"), moments, strict=True):
            with job.events_path.open("a") as file:
                print(json.dumps({"type": "phase", "name": name, "time": moment}), file=file)
        assert math.isnan(runs.optimisation_seconds(job))

    def test_preparing_again_changes_nothing(self, done):
        run, _ = done
        before = (run.folder / runs.RUN_FILE).read_bytes()
        runs.prepare(dataclasses.replace(run, record=dataclasses.replace(run.record, seed=9)))
        assert (run.folder / runs.RUN_FILE).read_bytes() == before
        assert settings.from_dict(json.loads(before)["config"]).run.seed == run.record.seed


def test_the_world_is_part_of_the_fingerprint(prior, tmp_path, monkeypatch):
    before = planned(prior, tmp_path)[0].record.fingerprint
    monkeypatch.setattr(world, "version", lambda: "another")
    assert planned(prior, tmp_path)[0].record.fingerprint != before
