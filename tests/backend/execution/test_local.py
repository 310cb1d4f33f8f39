"""The pool of processes, with children that take no time to speak of: order, retries, signals, what each child gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backend import machine
from backend.errors import ResourceError
from backend.execution import Outcome, Task
from backend.execution.child import last_words
from backend.execution.local import LocalExecutor, default_processes
from backend.execution.task import is_worth_a_retry

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups")

ROOT = Path(__file__).parents[3]
LIMIT = 30.0


def python(key: str, code: str, **options) -> Task:
    return Task(key, ("-c", code), program=(), **options)


def counting(file: Path, code: str) -> str:
    """`code` that finds in `n` how often it was started, from 1."""
    return (
        "import os, signal, sys, time\n"
        f"with open({str(file)!r}, 'a+') as f:\n    f.write('x'); f.flush(); f.seek(0); n = len(f.read())\n"
        f"{code}"
    )


def starts(file: Path) -> int:
    return len(file.read_text())


def run(tasks, *, processes=2, retries=1, **options):
    with LocalExecutor(processes, gpus=(), pause=0.05, **options) as executor:
        return list(executor.run(tasks, retries=retries))


class TestOutcomes:
    def test_they_come_as_the_tasks_end(self):
        tasks = [python("slow", "import time; time.sleep(1.5)"), python("quick", "pass"), python("next", "pass")]
        outcomes = run(tasks)
        assert [outcome.key for outcome in outcomes] == ["quick", "next", "slow"]
        assert all((outcome.exit_code, outcome.attempts) == (0, 1) for outcome in outcomes)
        assert outcomes[-1].seconds >= 1.5

    def test_no_more_at_once_than_processes(self, tmp_path):
        code = (
            "import pathlib, time\n"
            f"folder = pathlib.Path({str(tmp_path)!r}); me = folder / f'{{KEY}}'\n"
            "me.touch(); time.sleep(0.3); count = len(list(folder.iterdir())); me.unlink()\n"
            "import sys; print(count, file=sys.stderr)"
        )
        outcomes = run([python(str(n), code.replace("KEY", str(n))) for n in range(6)], processes=2)
        assert {outcome.message for outcome in outcomes} <= {"1", "2"}
        assert any(outcome.message == "2" for outcome in outcomes), "they do run side by side"

    def test_no_tasks(self):
        assert run([]) == []

    def test_keys_are_different(self):
        with pytest.raises(ValueError, match="same key"):
            run([python("a", "pass"), python("a", "pass")])

    def test_the_message_says_what_went_wrong(self):
        (outcome,) = run([python("a", "import sys; sys.stderr.write('working\\nerror: no such cat\\n  Try a dog.\\n'); sys.exit(3)")])
        assert (outcome.exit_code, outcome.message) == (3, "no such cat")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", ""),
            ("\n \n", ""),
            ("Traceback (most recent call last):\n  File x\nValueError: bad\n", "ValueError: bad"),
            ("a\x1b[2Jb\n", "a\\x1b[2Jb"),
            ("  only indented\n", "only indented"),
        ],
    )
    def test_last_words(self, text, message):
        assert last_words(text) == message


class TestRetries:
    @pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(1)", "sys.exit(9)", "sys.exit(130)"])
    def test_what_may_pass_is_tried_again(self, tmp_path, end):
        (outcome,) = run([python("a", counting(tmp_path / "n", f"if n == 1: {end}"))])
        assert (outcome.exit_code, outcome.attempts) == (0, 2)
        assert starts(tmp_path / "n") == 2

    @pytest.mark.parametrize("retries", [0, 2])
    def test_not_for_ever(self, tmp_path, retries):
        (outcome,) = run([python("a", counting(tmp_path / "n", "os.kill(os.getpid(), 9)"))], retries=retries)
        assert (outcome.exit_code, outcome.attempts, outcome.message) == (-9, retries + 1, "killed by signal 9")
        assert starts(tmp_path / "n") == retries + 1

    @pytest.mark.parametrize("code", [2, 3, 4, 5, 6, 8, 10, 11, 12])
    def test_bad_input_stays_bad(self, code):
        assert not is_worth_a_retry(code)

    def test_bad_input_is_not_tried_again(self, tmp_path):
        (outcome,) = run([python("a", counting(tmp_path / "n", "sys.exit(3)"))], retries=5)
        assert (outcome.exit_code, outcome.attempts) == (3, 1)
        assert starts(tmp_path / "n") == 1

    def test_the_others_go_first(self, tmp_path):
        first = python("killed", counting(tmp_path / "n", "if n == 1: os.kill(os.getpid(), 9)"))
        outcomes = run([first, python("b", "import time; time.sleep(0.2)"), python("c", "pass")], processes=1)
        assert [outcome.key for outcome in outcomes] == ["b", "c", "killed"]

    def test_it_is_told(self, tmp_path):
        told = []
        with LocalExecutor(1, gpus=(), pause=0.0) as executor:
            executor.notify = told.append
            list(executor.run([python("a", counting(tmp_path / "n", "if n == 1: sys.exit('oh')"))]))
        assert told == ["a: oh. Trying again."]

    def test_what_the_process_did_not_say_may_be_known_elsewhere(self, tmp_path):
        told = []
        with LocalExecutor(1, gpus=(), pause=0.0) as executor:
            executor.notify = told.append
            executor.reason = lambda task: f"{task.key} lacks memory."
            list(executor.run([python("a", counting(tmp_path / "n", "if n == 1: sys.exit(9)"))]))
        assert told == ["a: a lacks memory. Trying again."]

    def test_what_a_killed_child_started_is_killed_too(self, tmp_path, is_alive, wait_until):
        file = tmp_path / "pid"
        code = (
            "import os, subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"open({str(file)!r}, 'w').write(str(child.pid)); os.kill(os.getpid(), 9)"
        )
        run([python("a", code)], retries=0)
        wait_until(lambda: not is_alive(int(file.read_text())))


class TestSurroundings:
    SHOW = "import os, sys; print(*[os.environ.get(name) for name in {names!r}], file=sys.stderr)"

    def test_threads(self):
        show = self.SHOW.format(names=("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"))
        assert run([python("a", show)], threads=3)[0].message == "3 3 3"
        assert run([python("a", show)], processes=10_000)[0].message == "1 1 1"
        with LocalExecutor(1, gpus=()) as executor:
            assert executor.threads == machine.cores()

    def test_variables_of_the_task_are_stronger(self):
        assert run([python("a", self.SHOW.format(names=("OMP_NUM_THREADS",)), environ={"OMP_NUM_THREADS": "7"})])[0].message == "7"

    @pytest.mark.parametrize(("gpus", "cores", "processes"), [(0, 1, 1), (0, 2, 1), (0, 9, 4), (3, 2, 3)])
    def test_default_processes(self, gpus, cores, processes):
        assert default_processes(gpus, cores) == processes

    def test_gpus_are_leased_one_each(self):
        show = "import os, sys, time; print(os.environ['CUDA_VISIBLE_DEVICES'], file=sys.stderr); time.sleep(0.5)"
        with LocalExecutor(4, gpus=("0", "GPU-b")) as executor:
            outcomes = list(executor.run([python(str(n), show, gpus=1.0) for n in range(4)]))
        assert sorted(outcome.message for outcome in outcomes) == ["0", "0", "GPU-b", "GPU-b"]

    def test_two_are_leased_together_and_none_is_none(self):
        show = "import os, sys; print('<' + os.environ['CUDA_VISIBLE_DEVICES'] + '>', file=sys.stderr)"
        with LocalExecutor(1, gpus=("0", "1")) as executor:
            both, none = executor.run([python("both", show, gpus=2), python("none", show)])
        assert (both.message, none.message) == ("<0,1>", "<>")

    def test_without_gpus_the_variable_is_left_alone(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as it was")
        assert run([python("a", self.SHOW.format(names=("CUDA_VISIBLE_DEVICES",)))])[0].message == "as it was"

    def test_more_gpus_than_there_are(self):
        with LocalExecutor(1, gpus=("0",)) as executor, pytest.raises(ResourceError, match="a needs 2 GPUs, and 1 can be used"):
            list(executor.run([python("a", "pass", gpus=2)]))

    def test_the_command_line_is_what_runs(self):
        (outcome,) = run([Task("a", ("genrate",))])
        assert (outcome.exit_code, outcome.attempts) == (2, 1)
        assert "'genrate'" in outcome.message


PARENT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a `nohup` around the tests has it ignored, which an executor respects
from backend.execution import Task
from backend.execution.local import LocalExecutor
folder, code, grace = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
tasks = [Task(str(n), ("-c", code, str(folder / f"child-{n}")), program=()) for n in range(5)]
with LocalExecutor(2, gpus=(), grace=grace) as executor:
    try:
        for outcome in executor.run(tasks):
            print(outcome)
    except KeyboardInterrupt:
        sys.exit(130)
"""

CHECKPOINTS = """
import os, pathlib, sys, time
file = pathlib.Path(sys.argv[1])
try:
    file.with_suffix(".tmp").write_text(str(os.getpid())); file.with_suffix(".tmp").rename(file)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.3)
    file.with_suffix(".saved").touch()
    sys.exit(130)
"""

STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
file = pathlib.Path(sys.argv[1])
file.with_suffix(".tmp").write_text(str(os.getpid())); file.with_suffix(".tmp").rename(file)
time.sleep(60)
"""

ATTENDED = """
import sys, time
from backend import cli
from backend.execution import attended
def command(argv, inside):
    import os, pathlib
    file = pathlib.Path(sys.argv[1])
    file.with_suffix(".tmp").write_text(str(os.getpid())); file.with_suffix(".tmp").rename(file)
    time.sleep(60)
cli.main = command
attended.main(["anything"])
"""


class TestInterruption:
    @pytest.fixture
    def begin(self, tmp_path, wait_until):
        """Starts a parent of two children, and gives both once they are up."""

        def start(code: str, grace: float = 20.0) -> tuple[subprocess.Popen, list[int]]:
            parent = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(tmp_path), code, str(grace)], cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
            )
            files = tmp_path / "child-0", tmp_path / "child-1"
            wait_until(lambda: all(file.exists() for file in files))
            return parent, [int(file.read_text()) for file in files]

        return start

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_children_write_their_checkpoints_and_nothing_is_left(self, begin, tmp_path, number, is_alive):
        parent, children = begin(CHECKPOINTS)
        os.kill(parent.pid, number)
        assert parent.wait(LIMIT) == 130
        assert not any(map(is_alive, children))
        assert sorted(file.name for file in tmp_path.glob("*.saved")) == ["child-0.saved", "child-1.saved"]
        assert not (tmp_path / "child-2").exists(), "nothing is started any more"

    def test_a_terminal_tells_the_whole_group_and_children_hear_it_once(self, begin, tmp_path):
        parent, children = begin(CHECKPOINTS)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(LIMIT) == 130
        assert len(list(tmp_path.glob("*.saved"))) == len(children)

    def test_after_the_grace_they_are_killed(self, begin, is_alive):
        parent, children = begin(STUBBORN, grace=0.5)
        os.kill(parent.pid, signal.SIGINT)
        assert parent.wait(LIMIT) == 130
        assert not any(map(is_alive, children))

    def test_the_second_signal_does_not_wait(self, begin, is_alive):
        parent, children = begin(STUBBORN, grace=1000.0)
        os.kill(parent.pid, signal.SIGINT)
        time.sleep(0.7)
        assert parent.poll() is None and all(map(is_alive, children))
        os.kill(parent.pid, signal.SIGINT)
        assert parent.wait(LIMIT) == 130
        assert not any(map(is_alive, children))

    def test_children_of_a_killed_parent_end(self, begin, is_alive, wait_until):
        parent, children = begin(ATTENDED)
        time.sleep(0.3)
        assert all(map(is_alive, children))
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(map(is_alive, children)))

    def test_who_stops_listening_leaves_nothing_running(self, tmp_path, wait_until):
        with LocalExecutor(2, gpus=(), grace=5.0) as executor:
            run = executor.run([python("a", "pass"), Task("b", ("-c", CHECKPOINTS, str(tmp_path / "b")), program=())])
            assert next(run).key == "a"
            wait_until((tmp_path / "b").exists)
        assert (tmp_path / "b.saved").exists()
        assert executor.running() == 0

    @pytest.mark.parametrize(("code", "grace", "exit_code"), [(CHECKPOINTS, 20.0, 130), (STUBBORN, 0.3, -9)])
    def test_what_was_told_to_stop_is_told(self, tmp_path, code, grace, exit_code):
        file = tmp_path / "child"
        outcomes: list[Outcome] = []

        def interrupt():
            while not file.exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=interrupt).start()
        with LocalExecutor(1, gpus=(), grace=grace) as executor, pytest.raises(KeyboardInterrupt):
            outcomes.extend(executor.run([Task("a", ("-c", code, str(file)), program=()), python("b", "pass")]))
        (outcome,) = outcomes
        assert (outcome.key, outcome.exit_code, outcome.attempts, outcome.stopped) == ("a", exit_code, 1, True)
        assert outcome.seconds > 0

    def test_handlers_are_given_back(self):
        before = signal.getsignal(signal.SIGTERM)
        with LocalExecutor(1, gpus=()):
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before
