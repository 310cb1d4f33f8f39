"""What this computer has, container limits counted."""

from __future__ import annotations

import math
import sys

import pytest

from backend import machine


def test_memory_and_disk_of_this_computer_are_plausible(tmp_path):
    total, available = machine.memory()
    assert total is not None and available is not None and 10_000_000 < available <= total
    assert machine.free_disk(tmp_path / "not" / "there") > 0
    assert machine.free_disk(tmp_path / ("x" * 300)) > 0, "the system refuses such a name, as it refuses looks into others' folders"
    assert 1 <= machine.cores() <= 4096


def test_a_containers_limit_counts(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "_meminfo", lambda key: 8 * machine.GIB)
    monkeypatch.setattr(machine, "_cgroup_available", lambda: machine.GIB)
    assert machine.memory() == (8 * machine.GIB, machine.GIB)


@pytest.mark.parametrize(
    ("folder", "limit", "usage", "statistic"),
    [
        (".", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
    ids=["version 2", "version 1"],
)
@pytest.mark.parametrize(
    ("statistics", "available"),
    [
        ("anon 400\n{} 500\nactive_file 50\n", 600),  # files that were read are given up for the asking
        ("anon 900\n{} 0\n", 100),
        ("{} 5000\n", 1000),  # never more than the limit
        ("{} -5\n", 100),
        ("{} many\n", 100),
        ("{}\n", 100),
        ("not_{} 500\n", 100),
        ("\xff\0", 100),
        (None, 100),
    ],
)
def test_what_a_container_has_read_of_files_is_free(tmp_path, folder, limit, usage, statistic, statistics, available):
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (place / limit).write_text("1000\n")
    (place / usage).write_text("900\n")
    if statistics is not None:
        (place / "memory.stat").write_bytes(statistics.format(statistic).encode("latin-1"))
    assert machine._cgroup_available(tmp_path) == available


def test_a_container_without_a_limit(tmp_path):
    assert machine._cgroup_available(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert machine._cgroup_available(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "200000 0\n"}, None),
        ({"cpu.max": "much\n"}, None),
        ({"cpu.max": ""}, None),
        ({}, None),
    ],
)
def test_a_containers_processor_time(monkeypatch, tmp_path, files, limit):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert machine._cgroup_cores(tmp_path) == limit
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: limit)
    for visible, cores in ((1, 1), (3, min(3, math.ceil(limit or 3))), (64, math.ceil(limit or 64))):
        monkeypatch.setattr(machine, "visible_cores", lambda visible=visible: visible)
        assert machine.cores() == cores


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for the driver's tool")
@pytest.mark.parametrize(
    ("script", "gpus"),
    [("echo 'GPU 0: NVIDIA H200 (UUID: x)'", 1), ("echo 'No devices were found'", 0), ("echo 'GPU 0: x'; exit 9", 0)],
)
def test_only_a_driver_that_answers_counts(monkeypatch, tmp_path, script, gpus):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert len(machine.nvidia_gpus()) == gpus


@pytest.mark.parametrize(("count", "text"), [(383_945_509, "384 MB"), (2_930_000_000, "2.9 GB"), (999_600, "1 MB")])
def test_sizes(count, text):
    assert machine.format_bytes(count) == text
