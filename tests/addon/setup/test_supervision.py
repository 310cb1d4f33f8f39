"""The state machine of the environment, with real processes: a stand-in for the installer, and the installer itself where it is fast."""

import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from cograd3d.backend import environment, machine
from cograd3d.backend.environment import OWNER_FILE
from cograd3d.cograd3d_addon.setup import Phase, Supervisor, existing
from cograd3d.cograd3d_addon.setup import supervision as module
from cograd3d.cograd3d_addon.setup.hardware import GraphicsCards
from cograd3d.cograd3d_addon.setup.task import Options, SetupError

FAKE = Path(__file__).with_name("fake_installer.py")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No test sees or touches this computer's own environment."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "env"


@pytest.fixture
def supervisor(root):
    made = Supervisor()
    made.choose(location=root, own_python=None)
    yield made
    made.close()


@pytest.fixture
def play(monkeypatch, tmp_path):
    """`play("crashes")`: every task from now on is that function of fake_installer.py."""

    def choose(name: str) -> None:
        command = [sys.executable, str(FAKE), name, str(tmp_path)]
        monkeypatch.setattr(module, "setup_command", lambda *arguments, location: command)
        monkeypatch.setattr(module, "verification_command", lambda python: command)

    return choose


def wait(supervisor, condition=lambda situation: not situation.phase.is_busy, timeout=30.0):
    """Poll until the condition holds; returns the situations on the way, the last one included."""
    seen, deadline = [supervisor.situation], time.monotonic() + timeout
    while not condition(supervisor.situation):
        assert time.monotonic() < deadline, supervisor.situation
        if supervisor.poll():
            seen.append(supervisor.situation)
        time.sleep(0.005)
    return seen


def found(supervisor, timeout=30.0):
    """The graphics cards, once they were looked for."""
    deadline = time.monotonic() + timeout
    while supervisor.gpus is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return supervisor.gpus


def put_environment(root: Path) -> None:
    """What a completed installation looks like on disk."""
    site = root / ("Lib" if os.name == "nt" else "lib/python{}.{}".format(*sys.version_info)) / "site-packages"
    for pin in environment.requirements():
        info = site / f"{pin.name.replace('-', '_')}-{pin.version}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("")
    python = environment.Environment(root).python
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (root / OWNER_FILE).write_text("ours")
    verified = {"torch": "2.13.0", "device": "cpu", "threads": 4}
    (root / "installed.json").write_text(json.dumps({"requirements": environment.requirements_hash(), "verified": verified}))


class TestLooking:
    def test_knows_nothing_before_it_looked(self):
        assert Supervisor().situation.phase is Phase.UNKNOWN

    def test_absent(self, supervisor, root):
        situation = supervisor.situation
        assert situation.phase is Phase.ABSENT and situation.root == root and situation.needs_network
        assert situation.python is None and situation.problem == (situation.message, situation.remedy)

    def test_ready(self, supervisor, root):
        put_environment(root)
        supervisor.refresh()
        situation = supervisor.situation
        assert situation.phase is Phase.READY and situation.problem is None and situation.python == environment.Environment(root).python
        assert situation.describe() == "PyTorch 2.13.0 on this computer's processor (4 threads)"

    @pytest.mark.parametrize(
        ("damage", "phase", "needs_network"),
        [
            (lambda root: (root / "installed.json").unlink(), Phase.INTERRUPTED, False),
            (lambda root: (root / "installed.json").write_text('{"requirements": "old"}'), Phase.OUTDATED, False),
            (lambda root: next(root.rglob("torch-*/RECORD")).unlink(), Phase.DAMAGED, True),
            (lambda root: (root / OWNER_FILE).unlink(), Phase.FOREIGN, False),
        ],
    )
    def test_says_what_is_wrong(self, supervisor, root, damage, phase, needs_network):
        put_environment(root)
        damage(root)
        supervisor.refresh()
        situation = supervisor.situation
        assert situation.phase is phase and situation.needs_network is needs_network
        assert situation.python is None and all(text.endswith(".") for text in situation.problem)
        assert situation.can_remove is (phase is not Phase.FOREIGN)

    def test_notices_what_was_installed_elsewhere(self, supervisor, root, monkeypatch):
        monkeypatch.setattr(module, "_LOOK_AGAIN", 0.0)
        put_environment(root)
        assert supervisor.poll() and supervisor.situation.is_ready
        assert not supervisor.poll()

    def test_does_not_look_at_the_disk_at_every_poll(self, supervisor, root):
        put_environment(root)
        assert not supervisor.poll() and supervisor.situation.phase is Phase.ABSENT


class TestPlanning:
    def test_waits_for_no_graphics_driver_and_looks_at_no_file(self, supervisor, root, monkeypatch, tmp_path):
        """It is made while somebody looks at the dialog."""
        put_environment(root)
        (root / "installed.json").unlink()
        monkeypatch.setattr(environment, "_record_holds", lambda record: pytest.fail("thorough"))
        answer = tmp_path / "answer"
        waits = f"""
import json, pathlib, time
while not pathlib.Path({str(answer)!r}).exists():
    time.sleep(0.01)
print(json.dumps(["GPU 0"]))
"""
        supervisor._cards = GraphicsCards(lambda: [sys.executable, "-c", waits])
        supervisor.refresh()
        supervisor.refresh()
        assert supervisor.gpus is None
        assert supervisor.plan(Options()).build == "cpu"
        assert supervisor.plan(Options(allow_cuda=True)).build == "cuda"
        answer.touch()
        assert found(supervisor) == ("GPU 0",) and supervisor.plan(Options()).build == "cuda"

    def test_the_cards_are_those_that_the_backend_finds(self, supervisor):
        supervisor.refresh()
        assert found(supervisor) == tuple(machine.nvidia_gpus())

    @pytest.mark.parametrize("command", [["no such program"], [sys.executable, "-c", "print('{')"], [sys.executable, "-c", "print(1)"]])
    def test_cards_that_cannot_be_looked_for_are_none(self, supervisor, command):
        supervisor._cards = GraphicsCards(lambda: command)
        supervisor.refresh()
        assert found(supervisor) == ()

    def test_nobody_is_left_looking(self, supervisor):
        supervisor._cards = GraphicsCards(lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
        supervisor.refresh()
        pid = supervisor._cards._process._child.pid
        supervisor.close()
        assert supervisor._cards._process is None
        with pytest.raises(OSError):
            os.kill(pid, 0)

    def test_no_graphics_card_is_looked_for_where_nothing_is_to_be_installed(self, supervisor, root, monkeypatch):
        put_environment(root)
        supervisor._cards = GraphicsCards(lambda: pytest.fail("not needed"))
        supervisor.refresh()
        assert supervisor.situation.is_ready and supervisor.gpus is None


class TestInstalling:
    def test_tells_how_far_it_is(self, supervisor, play):
        play("progress")
        supervisor.install()
        assert supervisor.situation.phase is Phase.INSTALLING and supervisor.situation.python is None
        seen = wait(supervisor)
        assert all(situation.phase is Phase.INSTALLING for situation in seen[:-1])
        fractions = [situation.fraction for situation in seen if situation.fraction is not None]
        assert fractions == sorted(fractions)

    def test_what_counts_is_what_is_on_disk(self, supervisor, play, root):
        play("progress")
        put_environment(root)
        supervisor.install(Options(repair=True))
        assert supervisor.situation.python is None, "no worker may start in an environment that is being rebuilt"
        wait(supervisor)
        assert supervisor.situation.phase is Phase.READY

    def test_survives_garbage(self, supervisor, play):
        play("garbage")
        supervisor.install()
        wait(supervisor)
        assert supervisor.situation.phase is Phase.ABSENT  # it ended well; it only did not do anything

    def test_failure_keeps_message_remedy_and_log(self, supervisor, play):
        play("fails")
        supervisor.install()
        wait(supervisor)
        situation = supervisor.situation
        assert situation.phase is Phase.FAILED and "no such host" in situation.message
        assert "then set up again, which goes on from here" in situation.remedy
        assert situation.log is not None and situation.log.is_file()
        supervisor.forgive()
        assert supervisor.situation.phase is Phase.ABSENT

    def test_crash(self, supervisor, play):
        play("crashes")
        supervisor.install()
        wait(supervisor)
        assert supervisor.situation.message == "The process ended with exit code 1: MemoryError: out of luck."
        assert "MemoryError" in supervisor.situation.log.read_text()

    @pytest.mark.skipif(os.name == "nt", reason="signals")
    def test_killed_from_outside(self, supervisor, play):
        play("killed")
        supervisor.install()
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and "signal 9" in supervisor.situation.message

    def test_can_be_tried_again_after_a_failure(self, supervisor, play):
        play("crashes")
        supervisor.install()
        wait(supervisor)
        play("progress")
        supervisor.install()
        assert supervisor.situation.phase is Phase.INSTALLING
        wait(supervisor)
        assert supervisor.situation.phase is Phase.ABSENT

    def test_one_at_a_time(self, supervisor, play):
        play("hangs")
        supervisor.install()
        for start in (supervisor.install, supervisor.verify, supervisor.remove):
            with pytest.raises(SetupError, match="already"):
                start()

    def test_a_log_that_cannot_be_written_is_not_the_pythons_fault(self, supervisor, play, tmp_path):
        play("progress")
        shutil.rmtree(tmp_path / "data", ignore_errors=True)  # graphics cards may have been looked for
        (tmp_path / "data").write_text("no folder")
        supervisor.install()
        situation = supervisor.situation
        assert situation.phase is Phase.FAILED and "could not be written" in situation.message
        assert "Python" not in situation.message + situation.remedy

    def test_a_program_that_cannot_be_run(self, supervisor, monkeypatch):
        monkeypatch.setattr(module, "setup_command", lambda *arguments, location: ["/nowhere/python3"])
        supervisor.install()
        assert supervisor.situation.phase is Phase.FAILED and "/nowhere/python3" in supervisor.situation.message


@pytest.mark.skipif(os.name == "nt", reason="process ids")
class TestCancelling:
    def test_ends_everything_that_was_started(self, supervisor, play, tmp_path, is_alive, wait_until):
        play("hangs")
        supervisor.install()
        wait(supervisor, lambda situation: situation.fraction == 0.5)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 3 and all(is_alive(pid) for pid in pids)
        started = time.monotonic()
        supervisor.cancel()
        assert time.monotonic() - started < 1.0
        assert supervisor.situation.phase is Phase.ABSENT, "cancelled is no failure"
        wait_until(lambda: not any(is_alive(pid) for pid in pids), 5.0)

    def test_does_nothing_where_nothing_runs(self, supervisor):
        supervisor.cancel()
        assert supervisor.situation.phase is Phase.ABSENT

    def test_a_removal_goes_on(self, supervisor, play, tmp_path):
        play("hangs")
        supervisor.remove()
        wait(supervisor, lambda situation: situation.fraction == 0.5)
        supervisor.cancel()
        assert supervisor.situation.phase is Phase.REMOVING
        os.killpg(int((tmp_path / "pids").read_text().split()[0]), signal.SIGKILL)
        wait(supervisor)

    def test_another_folder_ends_it(self, supervisor, play, tmp_path):
        play("hangs")
        supervisor.install()
        supervisor.choose(location=tmp_path / "other", own_python=None)
        assert supervisor.situation.phase is Phase.ABSENT and supervisor.situation.root == tmp_path / "other"


class TestVerifying:
    def test_workers_may_run_meanwhile(self, supervisor, play, root):
        put_environment(root)
        supervisor.refresh()
        play("verified")
        supervisor.verify()
        assert supervisor.situation.phase is Phase.VERIFYING and supervisor.situation.is_ready
        wait(supervisor)
        assert supervisor.situation.phase is Phase.READY

    def test_what_does_not_work_is_not_used(self, supervisor, play, root):
        put_environment(root)
        supervisor.refresh()
        play("broken")
        supervisor.verify()
        wait(supervisor)
        situation = supervisor.situation
        assert situation.phase is Phase.FAILED and not situation.is_ready
        assert "libgomp" in situation.message and situation.remedy == 'Press "Repair".'
        play("progress")
        supervisor.install(Options(repair=True))
        wait(supervisor)
        assert supervisor.situation.phase is Phase.READY


class TestExistingPython:
    @pytest.fixture
    def python(self, tmp_path) -> Path:
        file = tmp_path / "python3"
        file.write_text("#!/bin/sh\n")
        return file

    def test_is_tried_out_before_it_is_used(self, supervisor, play, python, root):
        play("verified")
        supervisor.choose(location=root, own_python=python)
        assert supervisor.situation.phase is Phase.VERIFYING and supervisor.situation.python is None
        wait(supervisor)
        situation = supervisor.situation
        assert situation.phase is Phase.READY and situation.python == python and situation.is_existing
        assert situation.details["torch"] == "2.13.0+cpu"

    def test_is_not_tried_out_at_every_start(self, supervisor, play, python, root):
        play("verified")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        another = Supervisor()
        another.choose(location=root, own_python=python)
        assert another.situation.phase is Phase.READY

    def test_is_tried_out_again_where_it_changed(self, supervisor, play, python, root):
        play("verified")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        python.write_text("#!/bin/sh\n# updated\n")
        assert existing.tried(python) is None

    def test_that_does_not_work_is_refused(self, supervisor, play, python, root):
        play("broken")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and supervisor.situation.python is None
        assert "Choose another Python" in supervisor.situation.remedy
        assert existing.tried(python) is None

    def test_is_used_even_where_the_trial_cannot_be_noted(self, supervisor, play, python, root, monkeypatch):
        def write_whole(path, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        play("verified")
        with monkeypatch.context() as full:
            full.setattr(environment, "write_whole", write_whole)
            supervisor.choose(location=root, own_python=python)
            wait(supervisor)
        assert supervisor.situation.phase is Phase.READY and supervisor.situation.details["torch"] == "2.13.0+cpu"
        supervisor.verify()
        wait(supervisor)
        assert json.loads((environment.data_folder() / "existing-python.json").read_text())["identity"] == existing._identity(python)
        existing.forget()
        assert existing.tried(python) is None

    def test_is_refused_even_where_the_last_trial_cannot_be_forgotten(self, supervisor, play, python, root, monkeypatch):
        unlink = Path.unlink

        def unlink_others(path, missing_ok=False):
            if path.name == "existing-python.json":
                raise PermissionError(errno.EROFS, "Read-only file system")
            unlink(path, missing_ok)

        play("verified")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        monkeypatch.setattr(Path, "unlink", unlink_others)
        play("broken")
        supervisor.verify()
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and supervisor.situation.python is None

    def test_that_crashes_is_refused(self, supervisor, play, python, root):
        play("crashes")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and supervisor.situation.python is None

    def test_that_is_no_program_is_refused(self, supervisor, python, root):
        """Really run: the file is not executable."""
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and "cannot be run" in supervisor.situation.message

    def test_that_is_not_there(self, supervisor, root, tmp_path):
        supervisor.choose(location=root, own_python=tmp_path / "gone")
        assert supervisor.situation.phase is Phase.DAMAGED and not supervisor.situation.is_ready

    def test_that_may_not_be_looked_at(self, supervisor, root, tmp_path, monkeypatch):
        usual = Path.is_file

        def is_file(path):
            if path.parent.name == "private":
                raise PermissionError(13, "Permission denied")
            return usual(path)

        monkeypatch.setattr(Path, "is_file", is_file)
        supervisor.choose(location=root, own_python=tmp_path / "private" / "python")
        assert supervisor.situation.phase is Phase.DAMAGED and "cannot be read: Permission denied." in supervisor.situation.message
        monkeypatch.setenv("COGRAD3D_PYTHON", str(tmp_path / "private" / "python"))
        supervisor.refresh()
        assert supervisor.situation.phase is Phase.DAMAGED and "COGRAD3D_PYTHON" in supervisor.situation.message

    def test_giving_it_up_goes_back_to_our_own(self, supervisor, play, python, root):
        put_environment(root)
        play("broken")
        supervisor.choose(location=root, own_python=python)
        wait(supervisor)
        supervisor.choose(location=root, own_python=None)
        assert supervisor.situation.phase is Phase.READY and not supervisor.situation.is_existing

    def test_the_variable_wins(self, supervisor, python, root, monkeypatch):
        monkeypatch.setenv("COGRAD3D_PYTHON", str(python))
        supervisor.refresh()
        assert supervisor.situation.python == python and supervisor.situation.is_existing
        monkeypatch.setenv("COGRAD3D_PYTHON", str(python) + "x")
        supervisor.refresh()
        assert supervisor.situation.python is None and "COGRAD3D_PYTHON" in supervisor.situation.message


class TestRealInstaller:
    """`python -m backend.cli setup --json` itself, where it needs no network and no time."""

    def test_removes(self, supervisor, root):
        put_environment(root)
        supervisor.refresh()
        supervisor.remove()
        assert supervisor.situation.phase is Phase.REMOVING and not supervisor.situation.is_ready
        wait(supervisor)
        assert supervisor.situation.phase is Phase.ABSENT and not root.exists()

    def test_never_removes_what_is_not_ours(self, supervisor, root):
        root.mkdir()
        (root / "thesis.txt").write_text("precious")
        supervisor.refresh()
        supervisor.remove()
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and "left alone" in supervisor.situation.message
        assert (root / "thesis.txt").read_text() == "precious"

    def test_refuses_a_folder_without_wheels(self, supervisor, tmp_path):
        empty = tmp_path / "wheels"
        empty.mkdir()
        supervisor.install(Options(wheels=empty))
        wait(supervisor)
        assert supervisor.situation.phase is Phase.FAILED and "no folder with wheels" in supervisor.situation.message

    def test_verification_of_a_python_without_packages(self, supervisor, tmp_path, root):
        """The real verification, in an interpreter that has nothing."""
        bare = tmp_path / "bare" / "python3"
        bare.parent.mkdir()
        bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        bare.chmod(0o755)
        supervisor.choose(location=root, own_python=bare)
        assert supervisor.situation.phase is Phase.VERIFYING
        wait(supervisor)
        assert "No module named" in supervisor.situation.message, supervisor.situation
