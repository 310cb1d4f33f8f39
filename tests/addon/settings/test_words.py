"""Numbers and phases in an artist's words, help with the words of the built-in model, earlier prompts, remedies."""

from __future__ import annotations

import datetime

import pytest
from cograd3d.backend import errors
from cograd3d.backend.embedded import vocabulary
from cograd3d.backend.protocol import PHASES, Progress
from cograd3d.cograd3d_addon.settings import wording, words
from cograd3d.cograd3d_addon.settings.history import LONGEST, PromptHistory
from cograd3d.cograd3d_addon.settings.remedies import REMEDIES, Action, actions


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (8.4, "8 s"), (59.6, "1:00 min"), (185, "3:05 min"), (3599.7, "1:00 h"), (7800, "2:10 h")]
)
def test_duration(seconds, text):
    assert wording.duration(seconds) == text


def test_speed_and_memory():
    assert [wording.speed(4.24), wording.speed(0.25)] == ["4.2 steps/s", "4.0 s/step"]
    assert [wording.memory(850e6), wording.memory(1.94e9)] == ["850 MB", "1.9 GB"]


NOW = datetime.datetime(2026, 5, 20, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        ({"seconds": 20}, "just now"),
        ({"minutes": 5}, "5 min"),
        ({"hours": 3}, "3 h"),
        ({"days": 2}, "2 d"),
        ({"days": 40}, "2026-04-10"),
        ({"seconds": -90}, "just now"),
    ],
)
def test_age(ago, text):
    assert wording.age((NOW - datetime.timedelta(**ago)).isoformat(), NOW) == text


def test_age_of_what_is_unknown():
    assert wording.age("", NOW) == wording.age("yesterday", NOW) == ""
    assert wording.age("2026-05-20T09:00:00", NOW) == "3 h"  # UTC where nothing is said


def test_progress():
    progress = Progress(
        iteration=120, total=400, loss=0.43121, iterations_per_second=4.2, seconds_left=67, gaussians=2412, memory=1_900_000_000
    )
    assert wording.progress_fraction(progress) == pytest.approx(0.3)
    assert wording.progress_text(progress, "optimise") == "Shaping  120 of 400"
    assert wording.progress_text(progress, "surface") == "Building the surface"
    assert dict(wording.progress_details(progress)) == {
        "Time left": "1:07 min", "Speed": "4.2 steps/s", "Loss": "0.4312", "Memory": "1.9 GB", "Gaussians": "2,412",
    }  # fmt: skip
    assert wording.progress_details(Progress(iteration=0, total=0)) == ()
    assert wording.progress_fraction(None) == wording.progress_fraction(Progress(iteration=5, total=0)) == 0.0
    assert wording.progress_fraction(Progress(iteration=9, total=4)) == 1.0


def test_every_phase_has_a_name_for_artists():
    for phase, label in PHASES.items():
        assert wording.progress_text(None, phase) == label != phase
    assert wording.progress_text(None, "from the future") == "from the future"


def test_shortened():
    assert wording.shortened("a red cat", 9) == "a red cat"
    assert wording.shortened("a red cat", 7) == "a red…"


# The words of the built-in model


def test_hints():
    assert words.hint("  ") == words.Hint()
    assert words.hint("a red cat").understood
    assert not words.hint("a red cat").message
    hint = words.hint("a reb cat")
    assert "reb" in hint.message
    assert dict(hint.suggestions)["reb"][0] == "red"
    assert words.hint("a red thing made of nothing").message


@pytest.mark.parametrize(
    ("prompt", "word", "by", "expected"),
    [
        ("a reb cat", "reb", "red", "a red cat"),
        ("A catt", "catt", "owl", "An owl"),
        ("an oowl and a oowl", "oowl", "cat", "a cat and a cat"),
        ("a catt, catty", "catt", "cat", "a cat, catty"),
        ("the catt", "CATT", "owl", "the owl"),
    ],
)
def test_a_word_is_replaced_with_its_article(prompt, word, by, expected):
    assert words.replaced(prompt, word, by) == expected


def test_a_suggestion_leads_to_a_prompt_that_is_understood():
    for typo in ("teapott", "purpel"):
        prompt = f"a {typo} cat" if typo == "purpel" else f"a {typo}"
        ((word, near),) = words.hint(prompt).suggestions
        assert words.hint(words.replaced(prompt, word, near[0])).understood


@pytest.mark.parametrize("word", [word for _, known in words.MENU for word in known])
def test_every_word_of_the_menu_can_be_asked_for(word):
    for prompt in ("a red wooden cat", "a cat"):
        with_word = words.with_word(prompt, word)
        assert word in with_word.split()
        vocabulary.parse(with_word)
    assert words.hint(words.with_word("", vocabulary.OBJECTS[0])).understood


def test_a_word_takes_the_place_of_its_kind():
    assert words.with_word("a red cat", "blue").split()[1] == "blue"
    assert "cat" not in words.with_word("a red cat", "dog")


# Earlier prompts


def test_prompts_are_remembered_newest_first_and_once(tmp_path):
    history = PromptHistory(tmp_path / "new" / "prompts.json")
    for prompt in ("a cat", "a dog", "a cat", "  "):
        history.add(prompt)
    assert history.prompts == PromptHistory(history.path).prompts == ("a cat", "a dog")
    for number in range(2 * LONGEST):
        history.add(f"cat {number}")
    assert len(history.prompts) == LONGEST
    history.clear()
    assert PromptHistory(history.path).prompts == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1, null]", b"[" * 100_000])
def test_a_damaged_history_is_an_empty_one(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    assert PromptHistory(path).prompts == ()


def test_a_history_that_cannot_be_written_lives_until_the_end(tmp_path):
    (tmp_path / "file").write_text("")
    history = PromptHistory(tmp_path / "file" / "prompts.json")
    history.add("a cat")
    assert history.prompts == ("a cat",)


# Remedies


def _codes():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CoGradError)]
    return sorted({kind.code for kind in kinds} | set(REMEDIES) | {"never heard of"})


@pytest.mark.parametrize("code", _codes())
def test_every_error_has_a_button(code):
    assert actions(code, "normal")
    assert actions(code, "normal")[0].label


def test_every_kind_of_error_of_the_backend_is_thought_of():
    assert set(_codes()) - set(REMEDIES) == {"never heard of"}


def test_no_button_that_cannot_help():
    assert Action.LOWER_QUALITY in actions("resources", "normal")
    assert Action.LOWER_QUALITY not in actions("resources", "draft")
    assert Action.RESUME not in actions("resources", "normal", is_resumable=False)
    assert Action.OPEN_LOG not in actions("start", "normal", has_log=False)
