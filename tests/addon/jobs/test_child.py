"""Which processes count as alive."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cograd3d.cograd3d_addon.jobs.child import pid_is_alive


def test_a_child_is_alive_until_it_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert pid_is_alive(child.pid)
    assert not pid_is_alive(child.pid)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system cannot tell of a child's end without taking note of it")
def test_one_that_has_ended_and_that_nobody_has_taken_note_of_is_not():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # which leaves it as it is
        os.kill(child.pid, 0)
        assert not pid_is_alive(child.pid)


def test_this_process_and_numbers_of_none():
    assert pid_is_alive(os.getpid())
    assert not pid_is_alive(0)
    assert not pid_is_alive(-1)
