"""Cases that ask for many devices: workers of their own, whose CPU is split; one worker never serves two counts."""

from __future__ import annotations

from dataclasses import replace

from harness.discover import expand
from harness.runner import Work, run
from harness.runner.surroundings import with_devices
from harness.scenario import Scenario
from tests.harness.fake_cases import ticket

FLAG = "--xla_force_host_platform_device_count="


def test_a_worker_has_the_devices_that_its_case_asks_for(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    work = Work(function="tests.harness.fake_cases:fake", goldens=str(tmp_path), preload=())
    tickets = [replace(ticket("devices", number), devices=count) for number, count in enumerate((1, 8, 1, 8, 2))]
    assert all(verdict.passed for verdict in run(tickets, 1, work, lambda event: None))
    told = [path.read_text().split() for path in sorted(tmp_path.glob("devices-*"))]
    assert [flag for _, flag, _ in told] == ["-", "-", f"{FLAG}2", f"{FLAG}8", f"{FLAG}8"]
    workers = [worker for _, _, worker in told]
    assert workers[0] == workers[1]
    assert workers[3] == workers[4]
    assert len(set(workers)) == 3


def test_many_devices_are_on_the_cpu_with_threads_for_all_and_other_flags_stay(monkeypatch):
    user = {"JAX_PLATFORMS": "cuda", "XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "HOME": "/home/ada"}
    assert with_devices(user, 1) == user
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    split = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_cpu_enable_fast_math=false {FLAG}8", "PJRT_NPROC": "16"}
    assert with_devices(user, 8) == {**user, **split}
    assert with_devices({**user, "PJRT_NPROC": "5"}, 8)["PJRT_NPROC"] == "5"


def test_a_scenario_hands_its_devices_to_every_ticket():
    scenario = Scenario(why="a toy", program="forward", matrix={"a": {}, "b": {}}, devices=8)
    assert [each.devices for each in expand("toy", scenario)] == [8, 8]
    assert [each.devices for each in expand("toy", Scenario(why="a toy", program="forward"))] == [1]
