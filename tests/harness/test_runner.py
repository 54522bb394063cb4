"""A case that dies, hangs or grows costs itself only; results do not depend on the number of workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from harness.runner import Event, Work, run, sharded
from harness.runner.stopping import stoppable
from harness.runner.surroundings import cache_folder, surroundings
from harness.verdict import Ending, Rung, Verdict
from tests.harness import fake_cases
from tests.harness.fake_cases import ticket

ROOT = Path(__file__).resolve().parents[2]


def work(folder: Path) -> Work:
    return Work(function="tests.harness.fake_cases:fake", goldens=str(folder), preload=())


def judged(folder: Path, *tickets, jobs: int = 1, events: list[Event] | None = None) -> list[Verdict]:
    return run(tickets, jobs, work(folder), (lambda event: None) if events is None else events.append)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_verdicts_come_back_whole_and_in_ticket_order(tmp_path):
    tickets = [ticket("good", 1, seconds=5.0), ticket("diverged", 2, seconds=90.0), ticket("good", 3, seconds=30.0)]
    verdicts = judged(tmp_path, *tickets)
    assert verdicts == [
        fake_cases.good(tickets[0].case),
        fake_cases.diverged(tickets[1].case),
        fake_cases.good(tickets[2].case),
    ]


def test_longest_limit_runs_first_and_events_tell_all(tmp_path):
    events: list[Event] = []
    tickets = [ticket("good", 1, seconds=5.0), ticket("good", 2, seconds=90.0)]
    judged(tmp_path, *tickets, events=events)
    told = [(event.kind, event.case, event.done, event.total, event.running) for event in events]
    late, early = tickets[0].case, tickets[1].case
    assert told == [
        ("started", early, 0, 2, (early,)),
        ("finished", early, 1, 2, ()),
        ("started", late, 1, 2, (late,)),
        ("finished", late, 2, 2, ()),
    ]
    assert events[1].verdict == fake_cases.good(early)


@pytest.mark.parametrize(
    ("label", "ending", "words"),
    [
        ("raise", Ending.ERROR, "ZeroDivisionError: the fake divides by nought"),
        ("exit", Ending.ERROR, "SystemExit: 3"),
        ("memory_error", Ending.OUT_OF_MEMORY, "MemoryError: no room"),
        ("lie", Ending.ERROR, "instead of the verdict of"),
        ("crash", Ending.ERROR, "exit status 17"),
        ("kill", Ending.ERROR, "SIGKILL"),
        ("segfault", Ending.ERROR, "SIGSEGV"),
        ("grow", Ending.OUT_OF_MEMORY, "allowed are 0.4"),
    ],
)
def test_a_failure_costs_its_own_case_only(tmp_path, label, ending, words):
    tickets = [ticket("good", 1, 90.0), ticket(label, 2, 60.0, 0.4), ticket("diverged", 3, 30.0)]
    before, bad, after = judged(tmp_path, *tickets)
    assert (before.rung, after.rung) == (Rung.BITWISE, Rung.DIVERGED)
    assert (bad.case, bad.ending, bad.rung, bad.passed) == (tickets[1].case, ending, None, False)
    assert words in bad.detail
    assert not descendants()


def test_a_dead_worker_says_what_it_wrote_last(tmp_path):
    (bad,) = judged(tmp_path, ticket("crash"))
    assert "it wrote last: crash speaks" in bad.detail


def test_a_hung_case_is_ended_and_says_where_it_was(tmp_path):
    bad, good = judged(tmp_path, ticket("hang", 1, seconds=1.0), ticket("good", 2, seconds=0.9))
    assert (bad.ending, good.passed) == (Ending.TIMEOUT, True)
    assert "after its 1 s" in bad.detail
    assert "in _sleep" in bad.detail
    assert bad.seconds >= 1.0


def test_a_hung_case_takes_its_children_with_it(tmp_path):
    (bad,) = judged(tmp_path, ticket("hang_with_child", seconds=1.0))
    assert bad.ending is Ending.TIMEOUT
    assert len(pids := [int(pid) for pid in (tmp_path / "children").read_text().split()]) == 2
    assert not any(_alive(pid) for pid in pids)


def test_results_are_the_same_for_one_and_three_workers(tmp_path):
    labels = ["good", "crash", "diverged", "raise", "kill", "good", "lie", "diverged"]
    tickets = [ticket(label, number) for number, label in enumerate(labels)]
    one, three = ([_timeless(v) for v in judged(tmp_path, *tickets, jobs=jobs)] for jobs in (1, 3))
    assert one == three
    assert [verdict.case for verdict in one] == [t.case for t in tickets]


def test_a_worker_serves_several_cases_and_a_soiled_one_is_replaced(tmp_path, monkeypatch):
    # Importing jax sets the second, in whichever test comes first.
    for name in ("JAX_PLATFORMS", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    kept, changed = tmp_path / "kept", tmp_path / "changed"
    kept.mkdir(), changed.mkdir()
    judged(kept, ticket("worker_id", 1), ticket("good", 2), ticket("worker_id", 3))
    judged(changed, ticket("worker_id", 1), ticket("soil", 2), ticket("worker_id", 3), ticket("surroundings", 4))
    assert (len(list(kept.iterdir())), len(list(changed.glob("[0-9]*")))) == (1, 2)
    assert (changed / "surroundings").read_text() == "cpu 3 -"


def test_a_crash_in_a_used_worker_is_tried_again_in_a_fresh_one(tmp_path):
    events: list[Event] = []
    verdicts = judged(tmp_path, ticket("mark", 1), ticket("crash_if_used", 2), events=events)
    assert [verdict.passed for verdict in verdicts] == [True, True]
    assert [event.case for event in events if event.kind == "again"] == [ticket("crash_if_used", 2).case]


def test_a_function_that_cannot_be_imported_is_an_error_of_each_case(tmp_path):
    (bad,) = run([ticket("good")], 1, Work(function="no.such:thing", goldens="", preload=()), lambda event: None)
    assert bad.ending is Ending.ERROR
    assert "ModuleNotFoundError: No module named 'no'" in bad.detail


def test_an_exception_of_the_caller_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def refuse(event: Event) -> None:
        raise LookupError("the caller does not like it")

    with pytest.raises(LookupError, match="does not like"):
        run([ticket("hang", seconds=60.0)], 1, work(tmp_path), refuse)
    assert not descendants()
    assert not list(tmp_path.iterdir())


# A shell starts what it puts into the background with interrupts ignored, and this test may be such a thing.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path[:0] = {paths!r}
from harness.runner import run, Work
from tests.harness import fake_cases
from tests.harness.fake_cases import ticket
if __name__ == "__main__":
    work = Work(function="tests.harness.fake_cases:fake", goldens={folder!r}, preload=())
    try:
        run([ticket("hang_with_child", 1), ticket("hang", 2)], 2, work, lambda event: None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_run_leaves_no_process_behind(tmp_path, number, status):
    (room := tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", SCRIPT.format(paths=[str(ROOT)], folder=str(tmp_path))]
    parent = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(room)}, cwd=ROOT)
    _until(lambda: (tmp_path / "children").exists() and (tmp_path / "children").read_text().count(" ") == 1)
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 3
    parent.send_signal(number)
    assert parent.wait(timeout=30) == status
    if number == signal.SIGKILL:  # nobody is left to kill the child that hid in a session of its own
        hidden = psutil.Process(int((tmp_path / "children").read_text().split()[1]))
        family = [process for process in family if process.pid != hidden.pid]
        _until(lambda: not any(_alive(process.pid) for process in family))
        hidden.kill()
    else:
        assert not list(room.iterdir())
    assert not any(_alive(process.pid) for process in family)


def test_shards_share_nothing_and_miss_nothing():
    items = [f"case {number}" for number in range(11)]
    shards = [sharded(items, f"{number}/4") for number in (1, 2, 3, 4)]
    assert shards[1] == ("case 1", "case 5", "case 9")
    assert sorted(sum(shards, ())) == sorted(items)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/-2", "-1/2", "1/0", "1/2/3"])
def test_a_bad_shard_is_refused(shard):
    with pytest.raises(ValueError, match="write i/n"):
        sharded(["case"], shard)


def test_no_worker_is_refused(tmp_path):
    with pytest.raises(ValueError, match="jobs is 0"):
        judged(tmp_path, ticket("good"), jobs=0)


def test_the_users_environment_wins():
    chosen = surroundings({"JAX_PLATFORMS": "cuda", "HOME": "/home/ada"})
    assert (chosen["JAX_PLATFORMS"], chosen["TF_CPP_MIN_LOG_LEVEL"]) == ("cuda", "3")
    assert chosen["JAX_COMPILATION_CACHE_DIR"] == "/home/ada/.cache/linen-nnx-harness/jax"
    assert cache_folder({"JAX_COMPILATION_CACHE_DIR": "/fast/disk"}) == Path("/fast/disk")


def test_the_second_signal_does_not_disturb_clearing_up():
    cleared = []
    before = signal.getsignal(signal.SIGTERM)

    def stopped_twice() -> None:
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                cleared.append("all")

    with pytest.raises(KeyboardInterrupt):
        stopped_twice()
    assert cleared == ["all"]
    assert signal.getsignal(signal.SIGTERM) is before


def _timeless(verdict: Verdict) -> Verdict:
    """Without what a clock put there."""
    detail = " ".join(word for word in verdict.detail.split() if not word.replace(".", "").isdecimal())
    return dataclasses.replace(verdict, seconds=0.0, detail=detail)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.05)
