"""An installer that installs nothing: `python fake_installer.py PLAY [FOLDER]` prints what `setup --json` would, and what it should not."""

import json
import os
import subprocess
import sys
import time

VERIFIED = {"python": "3.11.9", "torch": "2.13.0+cpu", "device": "cpu", "gpus": [], "threads": 8}


def say(**fields):
    print(json.dumps(fields), flush=True)


def progress(folder):
    say(type="note", text="About 384 MB to download")
    for fraction in (None, 0.25, 0.5, 1.0):
        say(type="progress", text="Fetching torch", fraction=fraction)
    say(type="result", location=folder, python=f"{folder}/bin/python", verified=VERIFIED)


def garbage(folder):
    print("UserWarning: something\n{\n[1, 2]\n\x00\xff")
    sys.stdout.buffer.write(b"\xff\xfe no utf-8\n" + b"x" * 3_000_000 + b"\n")
    say(type="progress", text=None, fraction="much")
    say(type="progress", fraction=7)
    say(type="of the future", text="hello")
    say(no="type")
    progress(folder)


def fails(folder):
    say(type="progress", text="Fetching torch", fraction=0.5)
    remedy = "Check the network connection, then run the same command again, which goes on from here; install.log says more."
    say(type="error", code="setup", message="The packages could not be installed: no such host.", remedy=remedy, exit_code=6)
    sys.exit(6)


def crashes(folder):
    say(type="progress", text="Fetching torch", fraction=0.5)
    print("Traceback (most recent call last):\nMemoryError: out of luck", file=sys.stderr)
    sys.exit(1)


def hangs(folder):
    """As pip would: a child that holds the pipe, and a grandchild; their ids are in the file `pids`."""
    sleep = "import time; time.sleep(600)"
    parent = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', '{sleep}']).pid, flush=True); {sleep}"
    child = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    with open(f"{folder}/pids", "w") as file:
        file.write(f"{os.getpid()} {child.pid} {child.stdout.readline()}")
    say(type="progress", text="Fetching torch", fraction=0.5)
    time.sleep(600)


def killed(folder):
    say(type="progress", text="Fetching torch", fraction=0.5)
    os.kill(os.getpid(), 9)


def verified(folder):
    print("some library's warning")
    say(**VERIFIED, seconds=0.1)


def broken(folder):
    say(error="ImportError: libgomp.so.1: cannot open shared object file", seconds=0.1)
    sys.exit(1)


def silent(folder):
    """As the removal."""
    say(type="note", text=f"Removed {folder}.")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
