"""The wire's messages and its framing."""

import contextlib
import dataclasses
import json
import logging
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import protocol
from backend.errors import ProtocolError
from backend.protocol import (
    COMMANDS,
    EVENTS,
    JobSpec,
    Progress,
    Regions,
    Weight,
    check_hello,
    decode_command,
    decode_event,
    encode_line,
)
from backend.wire import MAX_LINE_BYTES, LineError, LineReader, read_lines

numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=30)
integers = st.integers(-(2**63), 2**63)
VALUES = {
    "str": texts,
    "int": integers,
    "float": numbers,
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(texts, max_size=3).map(tuple),
    "tuple[int, ...]": st.lists(integers, max_size=3).map(tuple),
    "tuple[float, ...]": st.lists(numbers, max_size=3).map(tuple),
    "tuple[float | None, ...]": st.lists(st.none() | numbers, max_size=3).map(tuple),
}
messages = st.one_of(
    [
        st.builds(kind, **{field.name: VALUES[field.type] for field in dataclasses.fields(kind)})
        for kind in [*EVENTS.values(), *COMMANDS.values()]
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


def decodes_or_raises_line_error(line):
    """Whatever a line is, decoding ends in a message, None or a LineError."""
    for function in (decode_event, decode_command):
        with contextlib.suppress(LineError):
            function(line)


@given(messages)
def test_every_message_comes_back_as_it_was_sent(message):
    line = encode_line(message)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    names = EVENTS if isinstance(message, protocol.Event) else COMMANDS
    assert names[json.loads(line)["type"]] is type(message)
    function = decode_event if isinstance(message, protocol.Event) else decode_command
    assert function(line) == message
    assert function(line.decode()) == message


def test_the_types_are_those_of_the_specification():
    required = {"hello", "phase", "progress", "regions", "preview", "checkpoint", "warning", "result", "error", "bye"}
    assert required <= set(EVENTS)
    assert set(COMMANDS) == {"pause", "resume", "stop", "cancel", "weight", "preview", "detach", "alive"}


@given(st.dictionaries(texts, json_values, max_size=3))
def test_unknown_fields_are_ignored(extra):
    extra = {f"x_{name}": value for name, value in extra.items()}
    assert decode_command(json.dumps({"type": "pause"} | extra)) == protocol.Pause()


def test_unknown_types_and_fields_are_logged(caplog):
    caplog.set_level(logging.INFO)
    assert decode_event('{"type": "sunrise", "x": 1}') is None
    assert "sunrise" in caplog.text
    decode_event('{"type": "paused", "paused": true, "mood": 1}')
    assert "mood" in caplog.text


def test_missing_fields_take_their_default():
    assert decode_event('{"type": "progress", "iteration": 1, "total": 2}').seconds_left == -1.0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{",
        b'{"type": "pause"',
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"type": 3}',
        b'{"type": null}',
        b"\xff\xfe{}",
        b'{"type": "weight"}',
        b'{"type": "weight", "regions": 3, "factor": 1}',
        b'{"type": "weight", "regions": [1.5], "factor": 1}',
        b'{"type": "weight", "regions": [true], "factor": 1}',
        b'{"type": "weight", "regions": [1], "factor": "1"}',
        b'{"type": "weight", "regions": [1], "factor": NaN}',
        b'{"type": "weight", "regions": [1], "factor": Infinity}',
        b'{"type": "weight", "regions": [1], "factor": 1' + b"0" * 400 + b"}",
        b'{"type": "weight", "regions": [1' + b"0" * 5000 + b'], "factor": 1}',
        b"[" * 100_000,
        b'{"type": "pause", "x": "' + b"y" * MAX_LINE_BYTES + b'"}',
    ],
)
def test_malformed_lines_raise_one_exception(line):
    with pytest.raises(LineError) as caught:
        decode_command(line)
    assert len(str(caught.value)) < 500, "a message does not repeat a whole line"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    decodes_or_raises_line_error(data)


@given(
    st.sampled_from([*EVENTS, *COMMANDS]),
    st.dictionaries(st.sampled_from(["regions", "factor", "iteration", "total", "loss"]), json_values),
)
def test_no_fields_raise_anything_else(name, fields):
    decodes_or_raises_line_error(json.dumps(fields | {"type": name}))


@given(messages, st.data())
def test_a_line_torn_anywhere_raises_a_line_error(message, data):
    line = encode_line(message)
    torn = line[: data.draw(st.integers(0, len(line) - 2))]
    with pytest.raises(LineError):
        decode_event(torn)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_null_on_the_wire_and_nan_at_the_other_end(value):
    line = encode_line(Progress(iteration=1, total=2, loss=value))
    assert json.loads(line, parse_constant=lambda name: pytest.fail(name))["loss"] is None
    assert math.isnan(decode_event(line).loss)


def test_numpy_values_are_numbers_and_lists():
    message = Regions(
        iteration=np.int64(3),
        azimuth=tuple(np.float64([0, 30])),
        elevation=np.float32([0.5, 1.5]),
        distance=(1.0, 1.0),
        loss=(np.float32(0.25), np.float32("nan")),
    )
    assert decode_event(encode_line(message)) == Regions(
        iteration=3, azimuth=(0.0, 30.0), elevation=(0.5, 1.5), distance=(1.0, 1.0), loss=(0.25, None)
    )


def test_a_message_too_long_for_a_line_is_refused():
    with pytest.raises(LineError, match="longer than"):
        encode_line(protocol.Notice(message="x" * MAX_LINE_BYTES))


def test_a_line_of_just_the_longest_length_passes_the_whole_way():
    frame = len(encode_line(protocol.Notice(message="")))
    line = encode_line(protocol.Notice(message="x" * (MAX_LINE_BYTES - frame)))
    assert len(line) == MAX_LINE_BYTES
    assert [decode_event(read) for read in LineReader().feed(line)] == [decode_event(line)]


def test_lag_is_the_loss_over_the_mean_of_what_was_visited():
    regions = Regions(iteration=1, azimuth=(0,) * 4, elevation=(0,) * 4, distance=(1,) * 4, loss=(1.0, 3.0, None, math.nan))
    assert regions.lag() == (0.5, 1.5, None, None)
    assert Regions(iteration=0, azimuth=(0,), elevation=(0,), distance=(1,), loss=(None,)).lag() == (None,)


def test_hello_of_the_same_version_passes():
    check_hello(protocol.Hello(protocol=protocol.PROTOCOL_VERSION))


@pytest.mark.parametrize(("version", "older"), [(protocol.PROTOCOL_VERSION + 1, "add-on"), (protocol.PROTOCOL_VERSION - 1, "worker")])
def test_hello_of_another_version_says_which_end_is_older(version, older):
    with pytest.raises(ProtocolError) as caught:
        check_hello(protocol.Hello(protocol=version))
    assert not isinstance(caught.value, LineError)
    assert caught.value.exit_code == 11
    assert older in caught.value.remedy


def test_job_spec_round_trip():
    spec = JobSpec(
        prompt="a réd cat",
        overrides={"gradient_fusion.cap": "inf", "timestep_sampling.gains": [1, 2, 3]},
        without=("gradient-fusion",),
        outputs=("/x/cat.glb",),
    )
    value = json.loads(json.dumps(spec.to_dict()))
    assert value["version"] == JobSpec.VERSION
    assert JobSpec.from_dict(value | {"unknown": 1}) == spec


@pytest.mark.parametrize("value", [{}, {"prompt": 3}, {"prompt": "x", "outputs": "y"}, {"prompt": "x", "overrides": []}])
def test_a_damaged_job_spec_is_refused(value):
    with pytest.raises(LineError):
        JobSpec.from_dict(value)


# --- LineReader


def pieces(data, cuts):
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.lists(st.integers(0, 10**6), max_size=20)
)
def test_lines_come_out_however_the_stream_is_cut(lines, cuts):
    data = b"".join(line + b"\n" for line in lines)
    reader, limit = LineReader(limit=20), 20
    read = [line for piece in pieces(data, cuts) for line in reader.feed(piece)]
    assert reader.close() is None
    expected = [line if len(line) < limit else LineError for line in lines if line.strip() or len(line) >= limit]
    assert [LineError if isinstance(line, LineError) else line for line in read] == expected


@given(st.binary(min_size=1, max_size=500), st.lists(st.integers(0, 10**6), max_size=20))
def test_no_more_than_the_limit_is_held(data, cuts):
    reader = LineReader(limit=16)
    for piece in pieces(data, cuts):
        list(reader.feed(piece))
        assert len(reader._pending) < 16


def test_an_enormous_line_is_reported_once_and_the_next_one_read():
    reader = LineReader()
    read = []
    for _ in range(64):
        read += reader.feed(b"x" * (1 << 20))
        assert len(reader._pending) < MAX_LINE_BYTES
    read += reader.feed(b'\n{"type": "stop"}\n')
    assert len(read) == 2
    assert isinstance(read[0], LineError)
    assert f"{64 << 20:,}" in read[0].message
    assert decode_command(read[1]) == protocol.Stop()


def test_a_stream_that_ends_in_a_line_is_reported():
    source = iter([b'{"type": "pause"}\n{"ty', b""])
    first, torn = read_lines(lambda _: next(source))
    assert decode_command(first) == protocol.Pause()
    assert isinstance(torn, LineError)
    assert "4 bytes" in torn.message


def test_carriage_returns_and_blank_lines_do_no_harm():
    read = list(LineReader().feed(b'\r\n\n  \n{"type": "weight", "regions": [1, 2], "factor": 0}\r\n'))
    assert [decode_command(line) for line in read] == [Weight(regions=(1, 2), factor=0.0)]
