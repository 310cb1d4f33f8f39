"""The harness itself: a scenario that goes wrong is reported, and no process outlives it."""

import pytest

from tests.screen import processes


@pytest.mark.parametrize(
    ("how", "told", "timeout"),
    [
        ("raises", "ZeroDivisionError: on purpose", 60),
        ("quits", "the scenario left no outcome", 60),
        ("hangs", "Blender did not end within 5 s", 5),
    ],
)
def test_a_faulty_scenario_is_reported_and_ended(start, how, told, timeout):
    with start("faulty", how=how) as run:
        child = run.recorded("child", timeout=60)
        assert told in run.finish(timeout=timeout, linger=0).failure
        assert child in processes.marked(run.name)
    assert processes.marked(run.name) == {}


def test_what_blender_complains_of_while_it_draws_is_reported(start):
    with start("faulty", how="draws") as run:
        outcome = run.finish(timeout=60, linger=0)
    assert not outcome.failure, outcome.failure
    for told in ("ZeroDivisionError: on purpose", "cograd3d.not_there", "CoGradSettings.not_there", "COGRAD3D_MT_not_there"):
        assert told in outcome.complaints
