"""The ranking page tells nothing, its answers become ranks, and what is no answer is refused."""

import json
import re

import pytest

from backend.errors import InputError
from backend.evaluation.gallery.ranking import HEADER, KEY_FILE, PAGE_FILE, read_answers, write_ranking

from .synthetic import PROMPTS, write_strip

VARIANTS = ("dreamfusion", "hifa", "cograd3d")


@pytest.fixture
def folder(tmp_path):
    strips = {
        (variant, prompt, 0): write_strip(tmp_path / f"{variant}-{prompt}.png", 10 * i + j)
        for i, variant in enumerate(VARIANTS)
        for j, prompt in enumerate(PROMPTS[:2])
    }
    assert write_ranking(tmp_path, VARIANTS, strips)
    return tmp_path


def key_of(folder):
    return json.loads((folder / KEY_FILE).read_text("utf-8"))


def group_of(folder, prompt):
    return next(name for name, group in key_of(folder)["groups"].items() if group["prompt"] == prompt)


def answer(folder, orders, name="answers.csv"):
    """Writes {(participant, prompt): variants from the best to the worst} as the page does."""
    groups, lines = key_of(folder)["groups"], [",".join(HEADER)]
    for (participant, prompt), order in orders.items():
        group = group_of(folder, prompt)
        items = {variant: item for item, variant in groups[group]["items"].items()}
        lines += [f"{participant},{group},{items[variant]},{place}" for place, variant in enumerate(order, start=1)]
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return folder / name


class TestPage:
    def test_names_nothing(self, folder):
        page = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "data:", (folder / PAGE_FILE).read_text("utf-8"))
        for told in (*VARIANTS, ".png", "seed 0", key_of(folder)["salt"], str(folder)):
            assert told.lower() not in page.lower()
        assert all(prompt in page for prompt in PROMPTS[:2]) and not re.search(r"https?:|src=\"(?!data:)|\$[a-z{]", page)
        assert set(re.findall(r'alt="([^"]*)"', page)) == {"An object, turning"}

    def test_its_items_are_the_keys(self, folder):
        page, key = (folder / PAGE_FILE).read_text("utf-8"), key_of(folder)
        for name, group in key["groups"].items():
            section = page[page.index(f'data-group="{name}"') :].split("</section>")[0]
            items = re.findall(r'data-item="([0-9a-f]{16})"', section)
            assert items == sorted(group["items"]) and sorted(group["items"].values()) == sorted(VARIANTS)

    def test_without_the_secret_ids_cannot_be_made(self, folder, tmp_path_factory):
        other = tmp_path_factory.mktemp("other")
        strips = {(variant, PROMPTS[0], 0): folder / f"{variant}-{PROMPTS[0]}.png" for variant in VARIANTS}
        write_ranking(other, VARIANTS, strips)
        assert not set(key_of(other)["groups"]) & set(key_of(folder)["groups"])

    def test_a_key_is_kept_and_added_to(self, folder):
        path, before = answer(folder, {(1, PROMPTS[0]): VARIANTS}), key_of(folder)
        strips = {(variant, prompt, 0): folder / f"{variant}-{prompt}.png" for variant in VARIANTS for prompt in PROMPTS[:2]}
        write_ranking(folder, VARIANTS, strips)
        assert key_of(folder) == before, "the same pictures have the same ids"
        write_strip(folder / f"hifa-{PROMPTS[0]}.png", 99)
        write_ranking(folder, VARIANTS, strips)
        after = key_of(folder)
        assert after["salt"] == before["salt"] and len(after["groups"]) == 3 and before["groups"].items() <= after["groups"].items()
        assert read_answers(path, folder / KEY_FILE)["hifa"].value == 2, "answers to the earlier page are read still"

    def test_one_alone_cannot_be_ranked(self, tmp_path):
        strips = {("cograd3d", PROMPTS[0], 0): write_strip(tmp_path / "a.png", 0), ("hifa", PROMPTS[1], 0): tmp_path / "missing.png"}
        assert not write_ranking(tmp_path, VARIANTS, strips) and not (tmp_path / PAGE_FILE).exists()

    def test_unreadable_pictures_are_left_out(self, tmp_path):
        strips = {(variant, PROMPTS[0], 0): write_strip(tmp_path / f"{i}.png", i) for i, variant in enumerate(VARIANTS)}
        (tmp_path / "1.png").write_bytes(b"no picture")
        assert write_ranking(tmp_path, VARIANTS, strips)
        (group,) = key_of(tmp_path)["groups"].values()
        assert set(group["items"].values()) == {"dreamfusion", "cograd3d"}


class TestAnswers:
    def test_means_over_prompts_of_means_over_participants(self, folder):
        a, b, c = VARIANTS
        first = answer(folder, {(1, PROMPTS[0]): (c, a, b), (1, PROMPTS[1]): (c, b, a)}, "1.csv")
        second = answer(folder, {(2, PROMPTS[0]): (a, c, b)}, "2.csv")
        found = read_answers([first, second], folder / KEY_FILE)
        assert {variant: each.value for variant, each in found.items()} == {a: (1.5 + 3) / 2, b: (3 + 2) / 2, c: (1.5 + 1) / 2}
        assert found[a].runs == 3 and found[a].prompts == 2
        assert read_answers(first, folder / KEY_FILE)[c].value == 1

    def test_orders_of_fewer_do_not_count(self, tmp_path):
        """The worst of two would be as good as the second of three."""
        a, b, c = VARIANTS
        strips = {(variant, PROMPTS[0], 0): write_strip(tmp_path / f"{i}.png", i) for i, variant in enumerate(VARIANTS)}
        strips |= {(variant, PROMPTS[1], 0): write_strip(tmp_path / f"more {i}.png", 9 + i) for i, variant in enumerate((b, c))}
        write_ranking(tmp_path, VARIANTS, strips)
        found = read_answers(answer(tmp_path, {(1, PROMPTS[0]): (a, b, c), (1, PROMPTS[1]): (b, c)}), tmp_path / KEY_FILE)
        assert {variant: (each.value, each.missing) for variant, each in found.items()} == {a: (1, 0), b: (2, 1), c: (3, 1)}

    def test_spreadsheets_may_have_touched_it(self, folder):
        path = answer(folder, {(1, PROMPTS[0]): VARIANTS})
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
        assert read_answers(path, folder / KEY_FILE)["dreamfusion"].value == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: "", "first line"),
            (lambda text: text.replace("participant", "who"), "first line"),
            (lambda text: text.replace(",1\n", ",4\n"), "not 1 to 3"),
            (lambda text: text.replace(",2\n", ",1\n"), "not 1 to 3"),
            (lambda text: text.replace(",1\n", ",best\n"), "numbers"),
            (lambda text: text.replace(",1\n", ",-1\n"), "numbers"),
            (lambda text: text.replace(",1\n", ",1,7\n"), "5 columns"),
            (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "not 1 to 3"),
            (lambda text: text + text.splitlines()[-1] + "\n", "twice"),
            (lambda text: re.sub(r"[0-9a-f]{16},1\n", "0123456789abcdef,1\n", text), "key does not know"),
            (lambda text: text.replace(",1\n", ',"1\n'), "holds no answers"),
        ],
    )
    def test_what_is_none_is_refused(self, folder, change, message):
        path = answer(folder, {(1, PROMPTS[0]): VARIANTS})
        path.write_text(change(path.read_text("utf-8")), "utf-8")
        with pytest.raises(InputError, match=message) as caught:
            read_answers(path, folder / KEY_FILE)
        assert str(path) in caught.value.message and caught.value.remedy

    def test_the_same_answers_twice_are_refused(self, folder):
        path = answer(folder, {(1, PROMPTS[0]): VARIANTS})
        with pytest.raises(InputError, match="before"):
            read_answers([path, path], folder / KEY_FILE)

    @pytest.mark.parametrize("text", [None, "", "[]", '{"salt": "x", "groups": {"g": 3}}'])
    def test_without_a_key_there_are_none(self, folder, text):
        path = answer(folder, {(1, PROMPTS[0]): VARIANTS})
        (folder / KEY_FILE).unlink()
        if text is not None:
            (folder / KEY_FILE).write_text(text, "utf-8")
        with pytest.raises(InputError, match="key"):
            read_answers(path, folder / KEY_FILE)
        missing = folder / "missing.csv"
        with pytest.raises(InputError):
            read_answers(missing, folder / KEY_FILE)
