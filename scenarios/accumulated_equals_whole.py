"""One step on a whole batch is the same step taken over microbatches of it, on each side by itself."""

from harness import Allowance, Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="both sides could weigh microbatches wrongly alike; the batch taken whole is the witness",
    program="train",
    relation=(
        ("train", {"retrained": {"gradient_accumulation_steps": 2}}),
        ("train", {"retrained": {"gradient_accumulation_steps": 3}}),
    ),
    # Clipping off: a norm that only nearly reaches its threshold would be a choice and no rounding.
    settings={
        "rows": 6,
        "train": TrainSettings(adam_eps=1e-4, gradient_clipping_threshold=0.0, schedule="constant"),
    },
    matrix={name: {"config": family(name)} for name in ("llama2", "gemma2")},
    allow=(
        Allowance(
            pattern="*",
            rtol=1e-9,
            because="a whole batch is divided by its weights plus 1e-8, sums of microbatches by their weights alone: "
            "two parts in ten billion, which only float64 sees",
        ),
    ),
    quick=("llama2",),
    faults=("both_accumulate_mean_of_means",),
)
