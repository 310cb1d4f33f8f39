"""The whole report: what is written, that the page stands alone, and what is said about what is not there."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from backend import packaging
from backend.errors import InputError
from backend.evaluation.gallery import page
from backend.evaluation.gallery.ranking import KEY_FILE
from backend.evaluation.gallery.report import write_report

from .synthetic import FRAMES, LEVELS, PROMPTS, gallery, record, records, write_strip
from .test_ranking import answer

VOID = {"meta", "img", "input", "br", "link", "rect", "path"}

NOTHING: dict = {"strips": {}, "truths": {}, "traces": {}}


class Structure(HTMLParser):
    """Checks that elements are closed in order, and keeps what is there."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.ids, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def notes(text):
    return re.findall(r"<li>([^<]*)</li>", text[text.index('<section id="notes">') :]) if 'id="notes"' in text else []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    asked = gallery(folder / "work")
    write_report(folder / "out", **asked)
    return folder / "out", asked


class TestWhole:
    def test_files(self, written):
        folder, _ = written
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        drawn = {f"plots/{name}.svg" for name in ("bars", "quality", "convergence", "visits", "timesteps", "fusion")}
        assert names == {"index.html", "tables.md", "table.csv", "differences.csv", "ranking.html", KEY_FILE, *drawn}

    def test_the_page_stands_alone_and_is_well_formed(self, written):
        text = (written[0] / "index.html").read_text("utf-8")
        structure = Structure(text)
        assert len(structure.ids) == len(set(structure.ids))
        for tag, attributes in structure.found:
            for name in ("src", "href"):
                if name in attributes:
                    assert attributes[name].startswith(("data:image/webp;base64,", "#")), (tag, name)
            if tag == "img":
                assert attributes["alt"]
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
        links = {attributes["href"][1:] for tag, attributes in structure.found if tag == "a"}
        assert links <= set(structure.ids)

    def test_every_prompt_has_the_truth_and_every_variant(self, written):
        structure = Structure((written[0] / "index.html").read_text("utf-8"))
        pictures = [attributes["alt"] for tag, attributes in structure.found if tag == "img"]
        expected = [f"{prompt}: {name}" for prompt in PROMPTS for name in ("the true object", *LEVELS)]
        assert pictures == expected
        sliders = [attributes for tag, attributes in structure.found if attributes.get("type") == "range"]
        assert len(sliders) == len(PROMPTS) and all(slider["max"] == str(FRAMES - 1) for slider in sliders)
        assert sum(tag == "svg" for tag, _ in structure.found) == 6

    def test_tables_and_plots_are_in_the_document_too(self, written):
        text = (written[0] / "tables.md").read_text("utf-8")
        assert all(f"## Table {number}" in text for number in (1, 2, 3)) and text.count("![") == 6
        for name in re.findall(r"\]\((plots/[^)]*)\)", text):
            assert (written[0] / name).is_file()
        rows = [line for line in text.splitlines() if line.startswith("| cograd3d |")]
        assert len(rows) == 3 and any("**" in row for row in rows) and "▼" in text

    def test_tables_of_figures(self, written):
        with (written[0] / "table.csv").open(newline="", encoding="utf-8") as file:
            means = {(row["variant"], row["measure"]): float(row["mean"]) for row in csv.DictReader(file)}
        psnr = [each.psnr for each in written[1]["records"] if each.variant == "cograd3d"]
        assert means["cograd3d", "psnr"] == pytest.approx(sum(psnr) / len(psnr), rel=1e-5)

    def test_it_can_be_written_again(self, written):
        folder, asked = written
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        write_report(folder, **asked)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    def test_answers_become_the_user_rank(self, written, tmp_path):
        _, asked = written
        write_report(tmp_path, **asked)
        path = answer(tmp_path, {(1, prompt): ("cograd3d", "luciddreamer", "dreamfusion") for prompt in PROMPTS})
        write_report(tmp_path, **asked, answers=[path])
        text = (tmp_path / "tables.md").read_text("utf-8")
        assert re.search(r"JR[^|]*\| User rank[^|]*\| PSNR", text) and "User rank" in (tmp_path / "index.html").read_text("utf-8")
        with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
            ranks = {row["variant"]: float(row["mean"]) for row in csv.DictReader(file) if row["measure"] == "user_rank"}
        assert ranks == {"cograd3d": 1, "luciddreamer": 2, "dreamfusion": 3}


class TestWhatIsMissing:
    def test_records_alone(self, tmp_path):
        write_report(
            tmp_path, records(seeds=1), variants=[*LEVELS, "hifa"], reference="cograd3d", title="t", command="c", machine="m", **NOTHING
        )
        text = (tmp_path / "index.html").read_text("utf-8")
        Structure(text)
        said = " ".join(notes(text))
        for what in (
            "Without a run: hifa",
            "CLIP-S B/32",
            "two runs of a prompt",
            "Turntables: 24 of 24",
            "true object",
            "Traces: none",
            "rank by",
        ):
            assert what in said
        assert not (tmp_path / "ranking.html").exists() and 'id="gallery"' not in text and "Alignment std" not in text
        assert "too narrow" in text, "four prompts are few"
        assert "Without a run: hifa" in (tmp_path / "tables.md").read_text("utf-8")

    def test_a_run_too_few_is_told(self, tmp_path):
        asked = gallery(tmp_path / "work", traced=())
        asked["records"] = [each for each in asked["records"] if (each.variant, each.prompt, each.seed) != ("w/o A", PROMPTS[0], 1)]
        write_report(tmp_path / "out", **asked)
        said = " ".join(notes((tmp_path / "out" / "index.html").read_text("utf-8")))
        assert "others have: w/o A." in said and "Turntables" not in said

    def test_unreadable_pictures_are_passed_over(self, tmp_path):
        asked = gallery(tmp_path / "work", traced=())
        asked["strips"]["cograd3d", PROMPTS[0], 0].write_bytes(b"no picture")
        write_report(tmp_path / "out", **asked)
        text = (tmp_path / "out" / "index.html").read_text("utf-8")
        assert f'alt="{PROMPTS[0]}: cograd3d"' not in text and f'alt="{PROMPTS[1]}: cograd3d"' in text

    def test_damaged_pictures_are_passed_over(self, tmp_path):
        path = write_strip(tmp_path / "a.png", 0)
        data = bytearray(path.read_bytes())
        place = data.index(b"IDAT")
        data[place - 4 : place] = (16).to_bytes(4, "big")  # a length that is too small is a SyntaxError to Pillow
        path.write_bytes(data)
        assert page.load_strip(path, 96) is None

    def test_of_few_prompts_more_differences_are_chance(self, tmp_path):
        for prompts, said in ((PROMPTS, "one in eight over four"), (tuple(f"prompt {n}" for n in range(12)), "one in twenty would")):
            made = records(prompts=prompts)
            write_report(tmp_path, made, variants=list(LEVELS), reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
            assert said in (tmp_path / "tables.md").read_text("utf-8")

    def test_one_variant_alone_is_reported(self, tmp_path):
        made = records({"cograd3d": LEVELS["cograd3d"]})
        write_report(tmp_path, made, variants=["cograd3d"], reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
        text = (tmp_path / "tables.md").read_text("utf-8")
        assert "| cograd3d | " in text and "differences from" not in text

    def test_the_reference_may_have_no_runs(self, tmp_path):
        made = [each for each in records() if each.variant != "cograd3d"]
        write_report(tmp_path, made, variants=list(LEVELS), reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
        assert "differences from" not in (tmp_path / "tables.md").read_text("utf-8")

    def test_alignments_of_different_judges_are_not_mixed(self, tmp_path):
        made = [replace(each, judge="b" if each.prompt == PROMPTS[0] else "a") for each in records()]
        write_report(tmp_path, made, variants=list(LEVELS), reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
        text = (tmp_path / "tables.md").read_text("utf-8")
        assert "Alignment: scores of different models cannot be compared" in text
        assert "Alignment: 12 of 48 runs have no value" in text
        assert "PSNR: 12 of" not in text, "the other measures are everybody's"

    def test_nor_are_the_paper_s_scores(self, tmp_path):
        """Nobody is told of mixed models where some runs merely have no score."""
        made = [replace(each, clip_b32=30.0, clip_b32_model="b" if each.prompt == PROMPTS[0] else "a") for each in records()]
        made = [replace(each, vqa_score=0.5, vqa_score_model="c") if each.prompt == PROMPTS[1] else each for each in made]
        write_report(tmp_path, made, variants=list(LEVELS), reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
        text = (tmp_path / "tables.md").read_text("utf-8")
        assert "CLIP-S B/32: scores of different models" in text and "CLIP-S B/32: 12 of 48 runs have no value" in text
        assert "VQAScore: scores of different models" not in text and "VQAScore: 36 of 48 runs have no value" in text

    def test_several_budgets(self, tmp_path):
        made = records() + records(budget=800, predictions=800)
        write_report(tmp_path, made, variants=list(LEVELS), reference="cograd3d", title="t", command="c", machine="m", **NOTHING)
        text = (tmp_path / "tables.md").read_text("utf-8")
        assert "largest budget alone, 1,600 predictions" in text and "PSNR against predictions" in text

    @pytest.mark.parametrize("made", [[], [record(psnr=1.0), record(psnr=1.0, seed=1, quality="high")]])
    def test_what_cannot_be_compared_is_refused(self, tmp_path, made):
        with pytest.raises(InputError):
            write_report(tmp_path, made, variants=["cograd3d"], reference="cograd3d", title="t", command="c", machine="m", **NOTHING)


class TestPage:
    def test_text_is_escaped(self, tmp_path):
        nasty = '<script>alert("x")</script>'
        levels = {nasty: LEVELS["w/o A"], "cograd3d": LEVELS["cograd3d"]}
        asked = gallery(tmp_path / "work", levels, (nasty, "a & b"), traced=("cograd3d", nasty)) | {"title": nasty, "command": nasty}
        write_report(tmp_path / "out", **asked | {"machine": nasty})
        for name in ("index.html", "ranking.html"):
            structure = Structure((tmp_path / "out" / name).read_text("utf-8"))
            assert sum(tag == "script" for tag, _ in structure.found) == 1
            assert nasty in "".join(structure.text)
        assert "<script" not in (tmp_path / "out" / "tables.md").read_text("utf-8").replace(f"    {nasty}\n", "")

    def test_strips_are_made_small_enough(self, tmp_path):
        path = write_strip(tmp_path / "a.png", 0)
        small, whole = page.load_strip(path, 48), page.load_strip(path, 500)
        assert small.frames == whole.frames == FRAMES and len(small.uri) < len(whole.uri)
        assert [page.frame_size(count) for count in (1, 150, 151, 5000)] == [128, 128, 96, page.SMALLEST_FRAME]

    def test_what_is_no_strip_is_none(self, tmp_path):
        from PIL import Image

        Image.new("RGB", (100, 64)).save(tmp_path / "odd.png")
        assert page.load_strip(tmp_path / "odd.png", 64) is None and page.load_strip(tmp_path / "missing.png", 64) is None

    def test_the_seed_that_most_have_is_shown(self):
        keys = [("a", "cat", 1), ("b", "cat", 1), ("a", "cat", 0), ("a", "dog", 3), ("b", "dog", 2), ("c", "dog", 2), ("c", "dog", 1)]
        assert page.shown_seeds(keys, ["a", "b"]) == {"cat": 1, "dog": 2}


def test_templates_are_in_the_extension():
    names = {
        f"backend/evaluation/gallery/{name}.txt" for name in ("index.html", "ranking.html", "page.css", "turntable.css", "turntable.js")
    }
    assert names <= set(packaging.selection())
