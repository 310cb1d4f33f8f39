"""What a program started ends with that program, together with all that it started itself, and takes nobody else along."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 20.0

SCRIPT = """
import subprocess, sys, time
from backend.attached import end_with_standard_input
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
end_with_standard_input()
assert sys.stdin.read() == "", "it is nobody's to read"
print(child.pid, flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups")


def start(*command, **options):
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options
    )


def test_it_ends_with_all_that_it_started(is_alive, wait_until):
    process = start("-c", SCRIPT, start_new_session=True)
    child = int(process.stdout.readline())
    time.sleep(0.2)
    assert process.poll() is None and is_alive(child), "as long as somebody is there"
    process.stdin.close()
    process.wait(LIMIT)
    wait_until(lambda: not is_alive(child))
    process.stdout.close()


def test_whoever_shares_its_group_stays():
    """As in a terminal, where the group may be that of a whole pipeline."""
    code = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {SCRIPT!r}]).returncode, flush=True)"
    process = start("-c", code, start_new_session=True)
    child = int(process.stdout.readline())
    process.stdin.close()
    assert process.stdout.readline() == "1\n"
    assert process.wait(LIMIT) == 0
    os.kill(child, 9)
    process.stdout.close()


@pytest.mark.parametrize("attached", [True, False])
def test_the_verification(attached):
    process = start("-P", "-m", "backend.verification", *(["--attached"] if attached else []), start_new_session=True,
                    env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    process.stdin.close()
    if attached:
        assert process.wait(LIMIT) == -9
    else:
        time.sleep(1.0)
        assert process.poll() is None
        process.kill()
        process.wait()
    process.stdout.close()


def test_the_installer(tmp_path):
    """While it waits for another one, which is long enough."""
    import fcntl

    from backend import environment

    root = tmp_path / "env"
    for pin in environment.requirements():  # all but the proof that it works is there: there is little disk to check for
        record = root / "lib/python{}.{}".format(*sys.version_info) / "site-packages" / f"{pin.name}-{pin.version}.dist-info" / "RECORD"
        record.parent.mkdir(parents=True)
        record.write_text("")
    python = environment.Environment(root).python
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (root / environment.OWNER_FILE).write_text("")
    with open(tmp_path / ".env.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(
            *("-u", "-m", "backend.cli", "setup", "--json", "--yes", "--attached", "--location", str(root)),
            start_new_session=True,
            env=os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        )
        while "waiting for it" not in process.stdout.readline():
            assert process.poll() is None
        process.stdin.close()
        assert process.wait(LIMIT) == -9
        process.stdout.close()
