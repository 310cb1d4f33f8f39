"""What people want of a run, from any thread."""

import math
import threading
import time

import pytest

from backend.control import Control, JobCancelled
from backend.protocol import Cancel, Pause, PreviewNow, Resume, Stop, Weight


def test_nothing_is_wanted_at_first():
    control = Control()
    assert not (control.paused or control.should_stop or control.should_cancel or control.take_preview_request())
    assert control.take_weights(36) == {}
    control.wait_if_paused(lambda _: pytest.fail("it did not pause"))
    control.raise_if_cancelled()


def test_commands_do_what_they_say():
    control = Control()
    control.apply(Pause())
    assert control.paused
    control.apply(Resume())
    assert not control.paused
    control.apply(PreviewNow())
    assert control.take_preview_request()
    assert not control.take_preview_request(), "a request is honoured once"
    control.apply(Weight(regions=(1, 2), factor=3.0))
    control.apply(Weight(regions=(2,), factor=0.5))
    assert control.take_weights(36) == {1: 3.0, 2: 0.5}
    assert control.take_weights(36) == {}
    control.apply(Stop())
    assert control.should_stop
    assert not control.should_cancel
    control.apply(Cancel())
    assert control.should_cancel


@pytest.mark.parametrize("end", ["stop", "cancel", "interrupt", "resume"])
def test_a_pause_lasts_until_it_is_ended(end):
    control, told = Control(), []
    control.pause()
    thread = threading.Thread(target=control.wait_if_paused, args=(told.append,))
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    assert told == [True]
    getattr(control, end)()
    thread.join(5)
    assert not thread.is_alive()
    assert told == [True, False]


def test_what_was_told_to_end_does_not_pause_any_more():
    for end in ("stop", "cancel", "interrupt"):
        control = Control()
        getattr(control, end)()
        control.pause()
        assert not control.paused


def test_the_first_reason_to_cancel_counts():
    control = Control()
    control.cancel()
    control.interrupt()
    assert control.cancel_reason == "cancelled"
    with pytest.raises(JobCancelled, match="cancelled"):
        control.raise_if_cancelled()


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_senseless_factors_are_refused(factor):
    control = Control()
    with pytest.raises(ValueError, match="from 0 up"):
        control.set_weights([1], factor)
    assert control.take_weights(36) == {}


def test_regions_outside_the_grid_are_refused_or_dropped():
    control = Control()
    with pytest.raises(ValueError, match="numbered from 0"):
        control.set_weights([3, -1], 2.0)
    control.set_weights([35, 36], 2.0)
    assert control.take_weights(36) == {35: 2.0}


def test_no_weight_is_lost_between_threads():
    control, taken = Control(), {}
    writers = [threading.Thread(target=lambda k=k: [control.set_weights([r], k) for r in range(k * 500, k * 500 + 500)]) for k in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        taken |= control.take_weights(2000)
    taken |= control.take_weights(2000)
    assert taken == {region: region // 500 for region in range(2000)}
