"""The same on Ray, started on this computer: outcomes, retries when a worker is lost, interruption, the shared folder.

Ray is optional: `python3 -m pip install -r backend/requirements-ray.txt` in the environment lets these run.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from backend.errors import OutputError, ResourceError
from backend.execution import Outcome, Task, make_executor, ray_cluster
from backend.execution.child import LOST
from backend.execution.ray_cluster import REQUIREMENTS, RayExecutor, run_on_node, sees


def python(key: str, code: str, **options) -> Task:
    return Task(key, ("-c", code), program=(), **options)


class TestWithoutRay:
    def test_it_says_how_to_install_it(self, monkeypatch):
        real = builtins.__import__

        def without_ray(name, *arguments, **options):
            if name.partition(".")[0] == "ray":
                raise ModuleNotFoundError("No module named 'ray'", name="ray")
            return real(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", without_ray)
        with pytest.raises(ResourceError, match="Ray is not installed") as caught:
            make_executor(ray_address="auto")
        assert sys.executable in caught.value.remedy
        assert str(REQUIREMENTS) in caught.value.remedy

    def test_its_requirements_are_pinned(self):
        lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
        assert all(line.count("==") == 1 for line in lines)
        assert sum(line.startswith("ray==") for line in lines) == 1

    def test_what_was_killed_is_told(self, monkeypatch):
        """By a stand-in: Ray's own end of a task does not arrive in time."""
        told = []
        ray = SimpleNamespace(cancel=lambda reference, force: told.append((reference, force)), wait=lambda *arguments, **options: ([], []))
        monkeypatch.setattr(ray_cluster, "_import_ray", lambda: ray)
        executor = RayExecutor("auto")
        assert executor.kill() == []
        executor._running = {"reference": ray_cluster._Running(python("a", "pass"), time.monotonic() - 5)}
        (ended,) = executor.kill()
        assert (ended.task.key, ended.exit_code, told) == ("a", LOST, [("reference", True)])
        assert 5 <= ended.seconds < 60
        assert executor.running() == 0

    def test_a_folder_is_shared_if_the_token_is_there(self, tmp_path):
        file = tmp_path / "sentinel"
        assert not sees(str(file), "token")
        file.write_text("another")
        assert not sees(str(file), "token")
        file.write_text("token")
        assert sees(str(file), "token")

    def test_a_node_that_does_not_see_it_runs_nothing(self, tmp_path):
        made = tmp_path / "made"
        code = f"open({str(made)!r}, 'w')"
        exit_code, _, message = run_on_node(["-c", code], {}, str(tmp_path / "gone" / "sentinel"), "token", 1.0)
        assert exit_code == OutputError.exit_code
        assert f"does not see {tmp_path / 'gone'}" in message
        assert not made.exists()


@pytest.fixture
def executor(tmp_path):
    """A Ray of its own; `python3 -m pip install -r backend/requirements-ray.txt` where it is missing."""
    pytest.importorskip("ray", reason="Ray is not installed: backend/requirements-ray.txt")
    with RayExecutor("local", cores=1, shared=tmp_path, grace=10.0, pause=0.5) as executor:
        yield executor
    assert not list(tmp_path.glob(".shared-*"))


@pytest.mark.slow
class TestWithRay:
    def test_outcomes_and_what_a_task_gets(self, executor, tmp_path):
        show = "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.environ['A'], file=sys.stderr); sys.exit({code})"
        tasks = [python(str(code), show.format(code=code), environ={"A": f"is {code}"}) for code in (0, 3)]
        outcomes = {outcome.key: outcome for outcome in executor.run(tasks, retries=3)}
        assert [(outcomes[key].exit_code, outcomes[key].attempts) for key in ("0", "3")] == [(0, 1), (3, 1)]
        assert outcomes["3"].message == "1 is 3"
        assert len(list(tmp_path.glob(".shared-*"))) == 1
        assert executor.processes >= 1
        assert executor.gpu_share == 0.0 or executor.gpu_share == 1.0

    @pytest.mark.parametrize("victim", ["os.getpid()", "os.getppid()"], ids=["process", "worker"])
    def test_what_is_killed_is_tried_again(self, executor, tmp_path, victim):
        """The process itself, and Ray's worker that waits for it."""
        file = tmp_path / "n"
        code = (
            "import os, time\n"
            f"with open({str(file)!r}, 'a') as f: f.write('x')\n"
            f"if os.path.getsize({str(file)!r}) == 1: os.kill({victim}, 9); time.sleep(60)"
        )
        (outcome,) = executor.run([python("a", code)], retries=1)
        assert (outcome.exit_code, outcome.attempts) == (0, 2)
        assert file.read_text() == "xx"

    def test_interruption_reaches_the_process(self, executor, tmp_path):
        file = tmp_path / "state"
        code = (
            f"import pathlib, sys, time\nfile = pathlib.Path({str(file)!r})\n"
            "try:\n    file.write_text('started'); time.sleep(60)\n"
            "except KeyboardInterrupt:\n    file.write_text('saved'); sys.exit(130)"
        )

        def interrupt():
            while not file.exists():
                time.sleep(0.05)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        outcomes: list[Outcome] = []
        with pytest.raises(KeyboardInterrupt):
            outcomes.extend(executor.run([python("a", code)]))
        assert [(outcome.key, outcome.attempts, outcome.stopped) for outcome in outcomes] == [("a", 1, True)]
        assert file.read_text() == "saved"
        assert executor.running() == 0

    def test_more_gpus_than_any_node_has(self, executor):
        with pytest.raises(ResourceError, match="no node of the Ray cluster"):
            list(executor.run([python("a", "pass", gpus=1000)]))


@pytest.mark.slow
def test_no_cluster(tmp_path: Path):
    pytest.importorskip("ray", reason="Ray is not installed: backend/requirements-ray.txt")
    with pytest.raises(ResourceError, match="There is no Ray cluster at auto"):
        RayExecutor("auto").__enter__()
