"""Which scene a job was started from, by what its folder says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cograd3d.cograd3d_addon.placement import PLACEMENT_FILE, Home, Placement, move_home, order_document, read_home, read_placement

HOME = Home(scene="Scene", key="k", file="", document="a", scene_uid=7, improves="Cat", improves_uid=9)


@pytest.mark.parametrize(
    ("scenes", "found"),
    [
        ({"Scene": "k"}, "Scene"),
        ({"Mine": "k", "Other": ""}, "Mine"),
        ({"Mine": "k", "Scene": ""}, "Mine"),
        ({"Scene": "", "Mine": "k"}, "Mine"),
        ({"A Copy": "k", "Scene": "k"}, "Scene"),
        ({"Scene": "", "Other": "x"}, "Scene"),
        ({"Scene": "x"}, ""),
        ({"Other": ""}, ""),
        ({}, ""),
    ],
    ids=[
        "as it was", "renamed", "renamed, and another with its name", "that other one first", "copied", "its key undone", "another's key",
        "another", "none",
    ],
)  # fmt: skip
def test_the_scene_is_found(scenes: dict[str, str], found: str) -> None:
    assert HOME.find(scenes) == found


@pytest.mark.parametrize(("scenes", "found"), [({"Other": "", "Scene": ""}, "Scene"), ({"Other": ""}, ""), ({"Scene": "x"}, "")])
def test_one_without_a_key_goes_by_its_name(scenes: dict[str, str], found: str) -> None:
    assert Home(scene="Scene").find(scenes) == found


def test_a_home_moves_with_its_file(tmp_path: Path) -> None:
    placement = Placement(origin=(1.0, 2.0, 3.0), yaw=0.5, target="Box", size=(1.0, 1.0, 2.0))
    (tmp_path / PLACEMENT_FILE).write_text(json.dumps(order_document(placement, HOME) | {"later": "more"}))
    move_home(tmp_path, "/b.blend")
    assert read_home(tmp_path) == replace(HOME, file="/b.blend")
    assert read_placement(tmp_path) == placement
    assert json.loads((tmp_path / PLACEMENT_FILE).read_text())["later"] == "more"
    assert [path.name for path in tmp_path.iterdir()] == [PLACEMENT_FILE]


def test_a_home_of_an_earlier_version_has_no_numbers(tmp_path: Path) -> None:
    (tmp_path / PLACEMENT_FILE).write_text(
        '{"home": {"scene": "Scene", "key": "k", "file": "/b.blend", "document": "a", "improves": "Cat"}}'
    )
    assert read_home(tmp_path) == Home(scene="Scene", key="k", file="/b.blend", document="a", improves="Cat")


@pytest.mark.parametrize("uid", ["7", None, 7.5, [7], True])
def test_a_number_that_is_none_is_left_out(uid: object, tmp_path: Path) -> None:
    (tmp_path / PLACEMENT_FILE).write_text(json.dumps({"home": {"scene": "Scene", "scene_uid": uid}}))
    assert read_home(tmp_path) == Home(scene="Scene")


@pytest.mark.parametrize("content", [None, "[", "{}", '{"home": "here"}', '{"version": 2, "home": {}}'])
def test_where_there_is_no_home_nothing_is_written(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / PLACEMENT_FILE
    if content is not None:
        path.write_text(content)
    move_home(tmp_path, "/b.blend")
    assert (path.read_text() if path.exists() else None) == content
