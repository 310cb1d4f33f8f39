"""What the terminal shows, as pure text and in a real pseudo-terminal."""

import io
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import progress, wording
from backend.errors import PriorError
from backend.job import JobFolder
from backend.progress import Terminal, heat_map, progress_lines, resume_command, run_with_progress
from backend.protocol import Bye, Failure, JobSpec, Notice, Paused, Phase, Progress, Regions, Result

AZIMUTHS, ELEVATIONS = tuple(range(0, 360, 30)), (0.0, 20.0, 45.0)
PLAIN, FULL = Terminal(80, 24), Terminal(80, 24, live=True, unicode=True, colour=True)


def make_regions(**changes):
    cells = [(azimuth, elevation) for elevation in ELEVATIONS for azimuth in AZIMUTHS]
    values = {"azimuth": tuple(a for a, _ in cells), "elevation": tuple(e for _, e in cells), "distance": (3.3,) * 36, "loss": (1.0,) * 36}
    return Regions(**({"iteration": 1, "weight": (1.0,) * 36} | values | changes))


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def at(row, column):
    """Index of the region in a row from the top and a column from the front."""
    return (len(ELEVATIONS) - 1 - row) * len(AZIMUTHS) + column


def cell(lines, row, column, width=4):
    return without_colours(lines[1 + row])[6 + width * column : 6 + width * (column + 1)]


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})


# --- pure text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (133, "2:13"), (3600, "1:00:00"), (36_061, "10:01:01"), (-3, "0:00")]
)
def test_clock(seconds, text):
    assert progress.clock(seconds) == text


def test_memory():
    assert progress.memory(812 << 20) == "812 MiB"
    assert progress.memory(3 << 29) == "1.5 GiB"


@given(st.text())
def test_nothing_printable_commands_a_terminal(text):
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", progress.printable(text))


def test_wide_characters_count_twice():
    assert progress.fit("赤い猫", 5) == "赤い"
    assert progress.fit("e\u0301clair", 3) == "e\u0301cl"


def test_the_bar_shows_the_share_and_the_time_left():
    event = Progress(iteration=250, total=1000, seconds_left=133, loss=0.0831, iterations_per_second=4.2, gaussians=4012, memory=812 << 20)
    bar, details = progress_lines(event, "Shaping", PLAIN)
    assert bar == f"Shaping  {'#' * 10}{'-' * 30}  250/1000  2:13 left"
    assert details == "  4.2 steps/s, loss 0.0831, 4,012 Gaussians, 812 MiB"


def test_unknown_numbers_are_left_out():
    assert progress_lines(Progress(iteration=0, total=0, phase="surface", loss=math.nan), "Building", PLAIN) == [
        f"Building  {'-' * 40}  0 %"
    ]


@given(st.integers(1, 200), st.integers(0, 2000), st.integers(0, 1000), st.text(max_size=30), st.booleans())
def test_a_line_never_wraps(width, iteration, total, label, unicode):
    event = Progress(iteration=iteration, total=total, seconds_left=1e6, loss=1e-9, gaussians=10**9, memory=1 << 40)
    for line in progress_lines(event, label, Terminal(width, 24, unicode=unicode)):
        assert progress.fit(line, max(0, width - 1)) == line


def test_the_heat_map_has_a_row_a_band_and_a_column_an_azimuth():
    losses = [1.0] * 36
    losses[at(0, 0)], losses[at(2, 3)] = 0.1, 10.0
    lines = heat_map(make_regions(loss=tuple(losses)), PLAIN)
    assert lines[0] == "      front       right       back        left"
    assert [line[:5] for line in lines[1:4]] == ["  45 ", "  20 ", "   0 "]
    assert cell(lines, 0, 0) == " .. "
    assert cell(lines, 2, 3) == " ## "
    assert len(lines) == 5
    assert lines[4].strip().startswith(". ahead")


def test_the_order_of_the_regions_does_not_matter():
    regions = make_regions(loss=tuple(0.5 + i / 36 for i in range(36)))
    turned = {name: getattr(regions, name)[::-1] for name in ("azimuth", "elevation", "distance", "loss", "weight")}
    turned["azimuth"] = tuple(azimuth - 360 if azimuth > 180 else azimuth for azimuth in turned["azimuth"])
    assert heat_map(Regions(iteration=1, **turned), PLAIN) == heat_map(regions, PLAIN)


def test_shades_grow_with_the_lag():
    losses = (0.5, 0.8, 1.0, 1.2, 1.5) + (1.0,) * 31
    lines = heat_map(make_regions(loss=losses), FULL)
    shown = [cell(lines, 2, column).strip() for column in range(5)]
    assert shown == ["··", "░░", "▒▒", "▓▓", "██"]
    ascii_lines = heat_map(make_regions(loss=losses), PLAIN)
    assert len({cell(ascii_lines, 2, column) for column in range(5)}) == 5
    assert all(line.isascii() for line in ascii_lines)


def test_colour_is_a_second_cue_and_can_be_switched_off():
    regions = make_regions()
    coloured, plain = heat_map(regions, FULL), heat_map(regions, Terminal(80, 24, live=True, unicode=True))
    assert any("\x1b[38;5;" in line for line in coloured)
    assert [without_colours(line) for line in coloured] == plain


def test_marks_for_current_frozen_boosted_and_unvisited():
    weights, losses = [1.0] * 36, [1.0] * 36
    weights[at(0, 1)], weights[at(0, 2)], weights[at(0, 3)] = 0.0, 3.0, 0.5
    losses[at(0, 4)] = None
    lines = heat_map(make_regions(weight=tuple(weights), loss=tuple(losses), current=at(0, 0)), PLAIN)
    assert [cell(lines, 0, column) for column in range(5)] == ["[oo]", " xx ", " o+ ", " o- ", "    "]
    assert "frozen" in lines[-1]


def test_of_several_distances_the_worst_is_shown():
    regions = Regions(iteration=1, azimuth=(0, 0, 90, 180, 270), elevation=(0,) * 5, distance=(3, 4, 3, 3, 3), loss=(0.1, 1.9, 1, 1, 1))
    assert cell(heat_map(regions, PLAIN), 0, 0) == " ## "


@pytest.mark.parametrize("terminal", [Terminal(29, 24), Terminal(80, 10)])
def test_no_heat_map_where_there_is_no_room(terminal):
    assert heat_map(make_regions(), terminal) == []


@given(st.integers(10, 120), st.integers(1, 40), st.integers(1, 6))
def test_the_heat_map_fits(width, columns, rows):
    cells = list(itertools.product([360 * i / columns for i in range(columns)], range(rows)))
    azimuth, elevation = zip(*cells, strict=True)
    regions = Regions(iteration=1, azimuth=azimuth, elevation=elevation, distance=(3,) * len(cells), loss=(1.0,) * len(cells))
    for line in heat_map(regions, Terminal(width, 40)):
        assert len(line) < width


class Stream(io.StringIO):
    def __init__(self, tty=True, encoding="utf-8"):
        super().__init__()
        self.tty, self._encoding = tty, encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self.tty


@pytest.mark.skipif(os.name == "nt", reason="terminals are recognised otherwise there")
@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Stream(), {"TERM": "xterm-256color"}, (True, True, True)),
        (Stream(), {"TERM": "xterm-256color", "NO_COLOR": "1"}, (True, True, False)),
        (Stream(), {"TERM": "xterm"}, (True, True, False)),
        (Stream(), {"TERM": "dumb"}, (False, True, False)),
        (Stream(), {}, (False, True, False)),
        (Stream(tty=False), {"TERM": "xterm-256color"}, (False, True, False)),
        (Stream(encoding="ascii"), {"TERM": "xterm-256color"}, (True, False, True)),
    ],
)
def test_what_a_stream_can_show(stream, environment, expected):
    terminal = Terminal.of(stream, environment)
    assert (terminal.live, terminal.unicode, terminal.colour) == expected


@pytest.mark.skipif(os.name == "nt", reason="quotes otherwise")
def test_the_command_to_go_on_can_be_pasted(tmp_path):
    command = resume_command(JobFolder(tmp_path / "my jobs"))
    assert command == f"python3 -m backend generate --resume '{tmp_path}/my jobs'"


def test_on_windows_too(monkeypatch):
    monkeypatch.setattr(wording, "os", SimpleNamespace(name="nt"))
    words = ["--resume", "C:\\Users\\Jörg Å\\cat", "C:\\jobs\\cat"]
    assert wording.command_line(words) == '--resume "C:\\Users\\Jörg Å\\cat" C:\\jobs\\cat'


# --- reporters


class Screen:
    """A terminal that understands what the live reporter uses: text, line ends, up to a line's start, erase below."""

    def __init__(self):
        self.lines, self.row = [""], 0

    def write(self, text):
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\[[0-9;]*m|\n|[^\x1b\n]+", text):
            if part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.endswith("F") and part.startswith("\x1b"):
                self.row -= int(part[2:-1])
                assert self.row >= 0
            elif part == "\x1b[J":
                self.lines = [*self.lines[: self.row], ""]
            elif not part.startswith("\x1b"):
                self.lines[self.row] += part


def show(folder, mode, events, *, terminal=FULL, monkeypatch):
    monkeypatch.setattr(Terminal, "of", classmethod(lambda cls, stream: terminal))
    monkeypatch.setattr(progress, "_size", lambda stream: os.terminal_size((terminal.width, terminal.height)))
    stream = Stream()
    reporter = progress.make_reporter(mode, folder, stream, "go on")
    for event in events:
        reporter(event)
    before = stream.getvalue()
    reporter.close()
    return before, stream.getvalue()


RUN = [
    Phase(name="prior"),
    Phase(name="optimise"),
    Progress(iteration=500, total=1000, seconds_left=60),
    make_regions(),
    Notice(message="The disk is slow.", remedy="Wait."),
]
END = [
    Phase(name="surface"),
    Result(asset="asset.glb", outputs=("/x/cat.glb",), iterations=1000, seconds=150, faces=20_000),
    Bye(reason="finished"),
]


def test_live_redraws_one_block_in_place(folder, monkeypatch):
    monkeypatch.setattr(progress, "_LIVE_INTERVAL", 0.0)
    during, _ = show(folder, "live", RUN, monkeypatch=monkeypatch)
    screen = Screen()
    screen.write(during)
    text = "\n".join(screen.lines)
    assert text.count("Shaping") == 1
    assert text.count("front") == 1
    assert screen.lines[0].startswith("✓ Loading the image model")
    assert screen.lines[1] == "warning: The disk is slow. Wait."
    assert screen.lines[2].startswith("Shaping  ━")


def test_live_leaves_only_what_stays(folder, monkeypatch):
    _, text = show(folder, "live", RUN + END, monkeypatch=monkeypatch)
    screen = Screen()
    screen.write(text)
    assert [re.sub(r"\(.*\)", "()", line) for line in screen.lines] == [
        "✓ Loading the image model ()",
        "warning: The disk is slow. Wait.",
        "✓ Shaping ()",
        "✓ Building the surface ()",
        "Done in 2:30: 1000 steps, 20,000 faces",
        "  /x/cat.glb",
        "",
    ]


def test_live_shows_a_pause(folder, monkeypatch):
    during, _ = show(folder, "live", [*RUN, Paused(paused=True)], monkeypatch=monkeypatch)
    screen = Screen()
    screen.write(during)
    assert any("paused" in line for line in screen.lines)


def test_plain_is_a_line_at_a_time_without_escapes(folder, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    _, text = show(folder, "plain", RUN + END, monkeypatch=monkeypatch)
    assert text.splitlines() == [
        "Loading the image model ...",
        "Shaping ...",
        "  500/1000 (50 %), 1:00 left",
        "warning: The disk is slow. Wait.",
        "Building the surface ...",
        "Done in 2:30: 1000 steps, 20,000 faces",
        "  /x/cat.glb",
    ]


def test_plain_does_not_tell_every_step(folder, monkeypatch):
    steps = [Progress(iteration=i, total=1000) for i in range(1000)]
    _, text = show(folder, "plain", [Phase(name="optimise"), *steps], monkeypatch=monkeypatch)
    assert text == "Shaping ...\n"


def test_quiet_says_only_what_went_wrong(folder, monkeypatch):
    failure = Failure(code="prior", message="There is no prior\x1b[2J here.", remedy="Put one there.")
    _, text = show(folder, "quiet", [*RUN, *END, failure], monkeypatch=monkeypatch)
    assert text == "error: There is no prior?[2J here.\n  Put one there.\n"


@pytest.mark.parametrize("mode", ["live", "plain", "quiet"])
def test_an_interrupted_run_says_how_to_go_on(folder, monkeypatch, mode):
    events = [*RUN, Bye(reason="interrupted", exit_code=130, resumable=True)]
    _, text = show(folder, mode, events, monkeypatch=monkeypatch)
    assert text.endswith("Stopped after 500 steps. To go on:\n  go on\n") or "Stopped after 500 steps. To go on:\n  go on\n" in text


def test_a_resumed_run_that_ends_before_its_next_step_counts_those_before(folder, monkeypatch):
    folder.update_state(iteration=300)
    events = [Phase(name="surface"), Bye(reason="interrupted", exit_code=130, resumable=True)]
    _, text = show(folder, "plain", events, monkeypatch=monkeypatch)
    assert "Stopped after 300 steps." in text


def test_a_stream_that_nobody_reads_does_not_end_the_run(folder, monkeypatch):
    class Broken(Stream):
        def write(self, text):
            raise BrokenPipeError

    reporter = progress.make_reporter("plain", folder, Broken(), "go on")
    for event in RUN + END:
        reporter(event)


# --- the run


def finish(folder, emit, control):
    emit(Phase(name="optimise"))
    emit(Result(asset="asset.glb", iterations=3))


def fail(folder, emit, control):
    raise PriorError("There is no prior.", remedy="Put one there.")


def test_a_run_and_its_exit_code(folder, capsys):
    before = signal.getsignal(signal.SIGINT)
    assert run_with_progress(folder, "auto", runner=finish) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{folder.path / 'asset.glb'}" in shown.err
    assert folder.state.status == "finished"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_run_is_shown_and_is_the_exit_code(folder, capsys):
    assert run_with_progress(folder, "plain", runner=fail) == PriorError.exit_code
    assert "error: There is no prior.\n  Put one there.\n" in capsys.readouterr().err


def start(folder, mode, job, **options):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2]); import fake_worker;"
        "from backend.job import JobFolder; from backend.progress import run_with_progress;"
        "sys.exit(run_with_progress(JobFolder.open(sys.argv[3]), sys.argv[4], runner=getattr(fake_worker, sys.argv[5])))"
    )
    here = Path(__file__).parent
    return subprocess.Popen([sys.executable, "-c", code, here, here.parents[1], folder.path, mode, job], **options)


def test_json_is_the_wire_and_nothing_else(folder):
    process = start(folder, "json", "noisy", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, other = process.communicate(timeout=30)
    assert process.returncode == 0
    kinds = [json.loads(line)["type"] for line in output.splitlines()]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("hello", "result", "bye")
    assert b"printed by a child" in other


def wait_for(condition, limit=30):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_the_first_ctrl_c_leaves_a_job_to_go_on_with(folder):
    process = start(folder, "plain", "steps", stderr=subprocess.PIPE)
    wait_for(lambda: folder.trace_path.exists() and folder.trace_path.stat().st_size > 200)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Stopping after a checkpoint" in shown
    command = shown.decode().splitlines()[-1].strip()
    assert command == resume_command(folder)
    assert folder.state.status == "interrupted"
    iteration = folder.latest_checkpoint().iteration
    assert [line["iteration"] for line in folder.read_trace()] == list(range(iteration))
    assert start(folder, "quiet", "steps").wait(30) == 0
    assert [line["iteration"] for line in folder.read_trace()] == list(range(400))


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_hang_up_that_is_ignored_stays_ignored(folder):
    """As `nohup` starts what is to outlive its terminal."""

    def hang_up(folder, emit, control):
        os.kill(os.getpid(), signal.SIGHUP)
        control.raise_if_cancelled()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_with_progress(folder, "quiet", runner=hang_up) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert folder.state.status == "finished"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_the_second_ctrl_c_stops_at_once(folder):
    process = start(folder, "plain", "stuck", stderr=subprocess.PIPE)
    wait_for(lambda: folder.events_path.exists() and folder.events_path.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in shown
    assert folder.state.status == "interrupted"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_in_a_real_terminal(folder):
    import pty
    import termios

    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (40, 100))
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    process = start(folder, "auto", "unhurried", stdin=inner, stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    shown = b""
    try:
        while piece := os.read(outer, 65536):
            shown += piece
    except OSError:  # Linux ends a pseudo-terminal so
        pass
    os.close(outer)
    assert process.wait(30) == 0
    screen = Screen()
    screen.write(shown.decode().replace("\r\n", "\n"))
    assert "front" in without_colours(shown.decode())
    assert [re.sub(r"\(.*\)|in .*:", "", line).strip() for line in screen.lines if line] == [
        "✓ Shaping",
        "✓ Building the surface",
        "Done  60 steps",
        str(folder.asset_path),
    ]
