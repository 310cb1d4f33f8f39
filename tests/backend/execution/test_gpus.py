"""Leases of GPUs: never more than there is of each, all of it usable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import machine
from backend.execution.gpus import GpuPool, share_of_gpu, usable_gpus


def test_whole_gpus():
    pool = GpuPool(("0", "1", "2"))
    assert pool.lease(2) == {"0": 1.0, "1": 1.0}
    assert pool.lease(2) is None
    assert pool.lease(1) == {"2": 1.0}
    assert pool.lease(0.1) is None
    assert pool.lease(0) == {}


def test_shares_go_where_the_most_is_free():
    pool = GpuPool(("0", "1"))
    assert [pool.lease(0.5) for _ in range(4)] == [{"0": 0.5}, {"1": 0.5}, {"0": 0.5}, {"1": 0.5}]
    assert pool.lease(0.5) is None


def test_what_was_given_back_is_leased_again():
    pool = GpuPool(("0",))
    lease = pool.lease(1)
    assert lease is not None and pool.lease(1) is None
    pool.give_back(lease)
    assert pool.lease(1) == {"0": 1.0}


@pytest.mark.parametrize(("gpus", "serves"), [(0, True), (0.5, True), (1, True), (2, True), (3, False), (1.5, False)])
def test_what_can_ever_be_served(gpus, serves):
    assert GpuPool(("0", "1")).serves(gpus) is serves
    assert GpuPool(()).serves(gpus) is (gpus == 0)


@given(processes=st.integers(1, 40), gpus=st.integers(1, 9))
def test_with_its_share_every_process_finds_a_gpu(processes, gpus):
    pool, share = GpuPool([str(index) for index in range(gpus)]), share_of_gpu(processes, gpus)
    assert all(pool.lease(share) for _ in range(processes))


def test_no_share_of_nothing():
    assert share_of_gpu(4, 0) == 0.0


@pytest.mark.parametrize(
    ("variable", "names"),
    [("", ()), ("0", ("0",)), ("2, 3", ("2", "3")), ("-1", ()), ("1,-1,0", ("1",)), ("GPU-8c,MIG-4f", ("GPU-8c", "MIG-4f"))],
)
def test_the_variable_rules(variable, names):
    assert usable_gpus({"CUDA_VISIBLE_DEVICES": variable}) == names


def test_without_it_all_count(monkeypatch):
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0: one", "GPU 1: another"])
    assert usable_gpus({}) == ("0", "1")
