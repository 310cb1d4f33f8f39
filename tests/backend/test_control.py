"""What people want of a run, from any thread."""

import math
import threading
import time

import pytest

from backend.control import Control, JobCancelled
from backend.protocol import Alive, Cancel, Detach, Pause, PreviewNow, Resume, Stop, Weight


def test_nothing_is_wanted_at_first():
    control = Control()
    assert not (control.paused or control.should_stop or control.should_cancel or control.detached or control.lease_has_run_out)
    assert control.has_unsaved, "as long as nobody knows better"
    assert control.take_previews(36) == []
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
    assert control.take_previews(36) == [-1]
    assert control.take_previews(36) == [], "a request is honoured once"
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


def test_every_preview_that_was_asked_for_is_made_once(caplog):
    control = Control()
    for region in (3, -1, 3, 35, 36, -1, 0):
        control.apply(PreviewNow(region=region))
    assert control.take_previews(36) == [3, -1, 35, 0]
    assert "36" in caplog.text
    assert control.take_previews(36) == []
    with pytest.raises(ValueError, match="numbered from 0"):
        control.request_preview(-2)


def test_a_pause_serves_what_is_asked_for_meanwhile():
    control, served, main = Control(), [], []
    control.pause()

    def serve():
        main.append(threading.current_thread())
        served.append((control.take_weights(36), control.take_previews(36)))

    thread = threading.Thread(target=control.wait_if_paused, args=(None, serve))
    thread.start()
    time.sleep(0.05)
    assert served == [], "it is not called for nothing"
    control.set_weights([2], 0.0)
    wait_for(lambda: len(served) == 1)
    control.request_preview(5)
    wait_for(lambda: len(served) == 2)
    assert served == [({2: 0.0}, []), ({}, [5])]
    assert set(main) == {thread}
    assert thread.is_alive()
    control.resume()
    thread.join(5)
    assert not thread.is_alive()


def test_what_is_asked_for_stays_asked_for_where_a_pause_does_not_serve():
    control = Control()
    control.pause()
    control.request_preview(5)
    thread = threading.Thread(target=control.wait_if_paused)
    thread.start()
    time.sleep(0.05)
    control.resume()
    thread.join(5)
    assert control.take_previews(36) == [5]


def test_a_lease_runs_out_unless_it_is_renewed():
    control = Control()
    control.apply(Detach(lease=0.2))
    assert control.detached
    for command in (Alive(), PreviewNow(), Alive(), Alive()):
        time.sleep(0.1)
        assert not control.lease_has_run_out
        control.apply(command)
    time.sleep(0.25)
    assert control.lease_has_run_out
    control.apply(Detach(lease=0))
    assert not control.lease_has_run_out, "without a lease there is none to run out"


@pytest.mark.parametrize("lease", [-1.0, math.nan, math.inf])
def test_senseless_leases_are_refused(lease):
    control = Control()
    with pytest.raises(ValueError, match="from 0 up"):
        control.apply(Detach(lease=lease))
    assert not control.detached


def test_detaching_from_a_paused_run():
    control = Control()
    control.pause()
    control.apply(Detach(lease=60))
    assert control.paused, "somebody is there to wake it"
    control.apply(Detach(lease=0))
    assert control.cancel_reason == "interrupted"


def test_waiting_for_a_detach():
    control = Control()
    assert not control.wait_until_detached(0.01)
    threading.Timer(0.05, control.detach).start()
    assert control.wait_until_detached(5)
    ended = Control()
    ended.cancel()
    began = time.monotonic()
    assert not ended.wait_until_detached(5), "it ends anyway"
    assert time.monotonic() - began < 1


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
