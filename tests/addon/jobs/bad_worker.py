"""Workers that misbehave: `python bad_worker.py FOLDER PART`. They know the wire as text only, to say what no worker would."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def hello(protocol=1):
    say(type="hello", protocol=protocol, pid=os.getpid())


def finish():
    say(type="result", asset="asset.glb")
    say(type="bye", reason="finished")


def read_to_the_end():
    """What every decent worker does: leave when standard input is closed."""
    sys.stdin.read()


def garbled():
    """Lines that are no messages between lines that are."""
    hello()
    out = sys.stdout.buffer
    for line in (b"no JSON", b"\xff\xfe\x00", b"[1, 2]", b'{"type": 5}', b'{"type": "phase", "name": 5}', b'{"type": "nova"}', b""):
        out.write(line + b"\n")
    out.write(b'{"a":' * 5000 + b"\n")
    out.flush()
    say(type="progress", iteration=3, total=5, new_field=[1])
    finish()


def at_once():
    """A whole run in one breath."""
    columns = {"azimuth": [0], "elevation": [0], "distance": [3], "loss": [1]}
    events = [{"type": "hello", "protocol": 1, "pid": os.getpid()}, {"type": "phase", "name": "optimise"}]
    for iteration in (1, 2):
        events += [{"type": "progress", "iteration": iteration, "total": 2}, {"type": "regions", "iteration": iteration, **columns}]
    events += [{"type": "phase", "name": "surface"}, {"type": "result", "asset": "asset.glb"}, {"type": "bye", "reason": "finished"}]
    sys.stdout.write("".join(json.dumps(event) + "\n" for event in events))


def enormous():
    """A line of 40 MB that never seems to end, and a torn one at the very end."""
    hello()
    out = sys.stdout.buffer
    for _ in range(40):
        out.write(b"x" * 1_000_000)
    out.write(b"\n")
    out.flush()
    say(type="progress", iteration=3, total=5)
    finish()
    out.write(b'{"type": "prog')
    out.flush()


def flood():
    """Far more than anybody reads."""
    hello()
    for iteration in range(200_000):
        sys.stdout.write(f'{{"type": "progress", "iteration": {iteration}, "total": 200000}}\n')
    finish()


def foreign():
    """Another version of the protocol."""
    hello(protocol=99)
    say(type="progress", iteration=1, total=2)
    read_to_the_end()


def foreign_deaf():
    """Another version of the protocol, in a worker that does not go."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hello(protocol=99)
    time.sleep(60)


def silent():
    """Not a word."""
    time.sleep(60)


def hangs():
    """Stops in mid-run, deaf to commands but not to signals."""
    hello()
    say(type="phase", name="optimise")
    say(type="progress", iteration=3, total=5)
    time.sleep(60)


def stubborn():
    """Deaf to everything."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs()


def hiccups():
    """Is silent for a while and goes on."""
    hello()
    say(type="phase", name="optimise")
    time.sleep(1.0)
    say(type="progress", iteration=3, total=5)
    finish()


def cannot_start():
    """As a Python whose libraries are broken."""
    sys.exit("ImportError: libtorch_cpu.so: cannot open shared object file")


def dies():
    """Ends in mid-run without a word, but for its log."""
    hello()
    say(type="progress", iteration=3, total=5)
    sys.stderr.write("the last thing it did\n")
    sys.stderr.flush()
    os._exit(3)


def crashes():
    """A native crash."""
    hello()
    os.kill(os.getpid(), signal.SIGSEGV)


def lingers():
    """Says good bye and stays."""
    hello()
    finish()
    time.sleep(60)


def meshes():
    """Goes on to the mesh when it is told anything, and leaves when it is told something more."""
    hello()
    say(type="phase", name="optimise")
    sys.stdin.readline()
    say(type="phase", name="surface")
    sys.stdin.readline()


def closes_its_mouth():
    """Closes its output and stays."""
    hello()
    sys.stdout.flush()
    os.close(1)
    time.sleep(60)


def leaves_a_child():
    """Ends, while a child of its own holds the pipe open."""
    hello()
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    finish()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    globals()[sys.argv[2].replace("-", "_")]()
