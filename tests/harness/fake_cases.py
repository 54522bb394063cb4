"""Cases that end in every way a case can end. `fake(ticket, goldens, pending)` does what the ticket's label says."""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.comparison import Comparison, Counts
from harness.difference import Difference
from harness.discover import Ticket
from harness.observation import Attestation, Environment, Observation
from harness.pair import Pair, Side
from harness.prepare import prepare
from harness.registry import load_pair
from harness.runner import Work
from harness.runner.dropped import drop
from harness.scenario import Scenario
from harness.verdict import Rung, Verdict

ENVIRONMENT = Environment(
    python="3.11.9", jax="0.10.2", jaxlib="0.10.2", flax="0.12.8", optax="0.2.8", orbax="0.12.8", numpy="2.4.1",
    platform="cpu", device="1 x cpu", machine="Linux x86_64", x64=False, matmul_precision="None", prng="threefry2x32",
    xla_flags="", commit="f78af0c",
)  # fmt: skip


def ticket(label: str, number: int = 0, seconds: float = 60.0, gibibytes: float = 1.0) -> Ticket:
    """A ticket whose case does `label`."""
    return Ticket(
        case=f"fake[{label}-{number},linen:nnx]", scenario="fake", label=label, sides=("linen", "nnx"), pair="fake",
        folder="", quick=True, seconds=seconds, gibibytes=gibibytes,
    )  # fmt: skip


def good(case: str, scenario: str = "fake") -> Verdict:
    """A verdict that passes."""
    counts = {"loss": Counts(expected=3, compared=3, missing=0, extra=0, differing=0)}
    attested = {
        side: Attestation(modules={side: ("Dense",)}, own=(f"my.{side}.Block",), config_digest="c0ffee")
        for side in ("linen", "nnx")
    }
    return Verdict(
        case=case, scenario=scenario, sides=("linen", "nnx"), rung=Rung.BITWISE, environment=ENVIRONMENT,
        why_not_higher="not PROVED: no graph proof was attempted", attestations=attested, seconds=1.25,
        parity=Comparison(left="linen", right="nnx", channels=counts, differences=()),
    )  # fmt: skip


def diverged(case: str, scenario: str = "fake") -> Verdict:
    """A verdict with a first divergence."""
    first = Difference(
        channel="gradients", name="decoder/layers/1/mlp/wi/kernel", reason="value", left="0.125", right="0.126",
        where=(2, 5), max_abs=0.001, max_rel=float("inf"), ulp=4096,
    )  # fmt: skip
    counts = {"gradients": Counts(expected=7, compared=6, missing=1, extra=0, differing=1)}
    return Verdict(
        case=case, scenario=scenario, sides=("linen", "nnx"), rung=Rung.DIVERGED, first=first, moved="nnx",
        module="decoder/layers/1/mlp", why_not_higher="not ALLOWED: nothing allows it", seconds=2.5,
        parity=Comparison(left="linen", right="nnx", channels=counts, differences=(first,)),
    )  # fmt: skip


def fake(order: Ticket, goldens: Path, pending: Path) -> Verdict:
    """The verdict of what the label says, under the ticket's scenario."""
    return replace(_fake(order, goldens), scenario=order.scenario)


def _fake(order: Ticket, goldens: Path) -> Verdict:
    """What the label says: good, diverged, lie, raise, exit, crash, kill, segfault, hang, grow..."""
    print(f"{order.label} speaks", file=sys.stderr)
    if order.label in ("diverged", "lie"):
        return diverged(order.case) if order.label == "diverged" else good("another case")
    _fail(order.label, goldens)
    _leave_a_trace(order.label, goldens)
    return good(order.case)


def _fail(label: str, goldens: Path) -> None:
    """Never returns for the labels that it knows."""
    match label:
        case "raise":
            raise ZeroDivisionError("the fake divides by nought")
        case "exit":
            sys.exit(3)
        case "memory_error":
            raise MemoryError("no room")
        case "crash":
            os._exit(17)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            faulthandler.enable()
            ctypes.string_at(0)
        case "hang":
            _sleep()
        case "hang_with_child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            (goldens / "children").write_text(f"{os.getpid()} {child.pid}")
            _sleep()
        case "grow":
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)) * 16)


def _leave_a_trace(label: str, goldens: Path) -> None:
    """Writes down, or changes, what the labels that it knows are about."""
    match label:
        case "worker_id":
            (goldens / str(os.getpid())).touch()
        case "soil":
            os.environ["SOILED"] = "yes"
        case "crash_if_used":
            if (goldens / f"used-{os.getpid()}").exists():
                os._exit(9)
        case "mark":
            (goldens / f"used-{os.getpid()}").touch()
        case "devices":
            names = (os.environ["JAX_PLATFORMS"], os.environ.get("XLA_FLAGS", "-"), str(os.getpid()))
            (goldens / f"devices-{len(list(goldens.iterdir()))}").write_text(" ".join(names))
        case "surroundings":
            names = ("JAX_PLATFORMS", "TF_CPP_MIN_LOG_LEVEL", "SOILED")
            (goldens / "surroundings").write_text(" ".join(os.environ.get(name, "-") for name in names))


def _sleep() -> None:
    while True:
        time.sleep(1)


def prepare_fake(settings, seed):
    """Weights and inputs that depend on the settings alone."""
    width = int(settings.get("width", 3))
    rng = np.random.default_rng(seed + width)
    return {"w": rng.standard_normal((width, 5), dtype="float32")}, {"x": rng.standard_normal(width, dtype="float32")}


PAIR = Pair(
    name="fake",
    sides={name: Side(name=name, frameworks=frozenset({name}), programs={}) for name in ("linen", "nnx")},
    prepare=prepare_fake,
    scenarios={
        "alpha": Scenario(why="the first", program="forward", matrix={"good": {"width": 3}, "more": {"width": 7}}),
        "beta": Scenario(why="the second", program="grad", matrix={"diverged": {}}),
    },
)


def fake_drop(order: Ticket, goldens: Path, pending: Path) -> Verdict:
    """A verdict whose ruler's observation is dropped: what the weights and inputs give."""
    pair = load_pair(order.pair)
    case = prepare(pair, pair.scenarios[order.scenario], order)
    output = case.inputs["x"] @ case.weights["w"]
    if pending != Path(""):
        seen = Observation(
            who="linen", program="forward", channels={"outputs": {"logits": output}}, seconds=0.5,
            environment=ENVIRONMENT, case_digest=case.digest,
        )  # fmt: skip
        drop(pending, case, seen)
    return fake(order, goldens, pending)


def use_fake(monkeypatch, function: str) -> None:
    """Lets the commands give tickets to a function of this module, in workers that know no JAX."""
    work = functools.partial(Work, function=f"{__name__}:{function}", preload=())
    monkeypatch.setattr("harness.cli.run.Work", work)
    monkeypatch.setattr("harness.cli.golden.Work", work)
