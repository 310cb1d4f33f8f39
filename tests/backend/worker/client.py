"""A client of the worker that knows nothing but the protocol: one JSON object a line in each direction."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue

import pytest

FAKE = Path(__file__).parents[1] / "fake_worker.py"
LIMIT = 30.0


class Client:
    """Starts a worker, sends commands and collects events."""

    def __init__(self, folder, job="steps", environment=None, **options):
        self.process = subprocess.Popen(
            [sys.executable, str(FAKE), str(folder), job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | (environment or {}),
            **options,
        )
        self.events, self.raw, self._queue = [], b"", Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def send(self, **command):
        self.write(json.dumps(command).encode() + b"\n")

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def next(self, limit=LIMIT):
        """The next event, None at the end of the stream."""
        line = self._queue.get(timeout=limit)
        if line is None:
            return None
        self.raw += line
        assert line.endswith(b"\n"), "half a line"
        self.events.append(json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} on the wire")))
        return self.events[-1]

    def until(self, kind, **fields):
        """Read on to the first event of a type with these values."""
        while (event := self.next()) is not None:
            if event["type"] == kind and event | fields == event:
                return event
        raise AssertionError(f"no {kind} {fields} in {[event['type'] for event in self.events]}")

    def finish(self):
        """Read to the end; the exit code."""
        while self.next() is not None:
            pass
        return self.process.wait(LIMIT)

    def types(self):
        return [event["type"] for event in self.events]
