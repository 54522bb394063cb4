"""Runs a pair's programs without the rest of the harness, and compares what they return bit by bit."""

from harness.case import Case
from harness.scenario import Run


def case_of(pair, program, settings=()):
    """The case of `program`, with the weights and inputs that the pair itself prepares."""
    weights, inputs = pair.prepare(dict(settings), 0)
    return Case(
        name=pair.name,
        scenario=program,
        label="default",
        golden=pair.name,
        runs=(Run(side="linen", program=program), Run(side="nnx", program=program)),
        settings=dict(settings),
        weights=weights,
        inputs=inputs,
        seed=0,
        allow=(),
        digest="",
    )


def results(pair, program, settings=()):
    """What each side returned for `program`."""
    case = case_of(pair, program, settings)
    return tuple(pair.sides[run.side].programs[program](case, run) for run in case.runs)


def found(pair, program):
    """Everything that is wrong: "channel/name", sorted. A claim that is false on either side is wrong."""
    left, right = (
        {f"{c}/{n}": v for c, values in side.items() for n, v in values.items()} for side in results(pair, program)
    )
    assert left
    wrong = set(left) ^ set(right)
    wrong |= {name for name in left.keys() & right.keys() if not _equal(left[name], right[name])}
    wrong |= {name for name, value in [*left.items(), *right.items()] if name.startswith("claims/") and not value}
    return sorted(wrong)


def _equal(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
