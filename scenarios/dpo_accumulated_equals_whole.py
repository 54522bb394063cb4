"""A step on all pairs at once is the same step taken over microbatches of them, on each side by itself."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import PreferenceSettings, TrainSettings

SCENARIO = Scenario(
    why="both sides could weigh pairs or balance experts wrongly alike; the batch taken whole is the witness",
    program="dpo",
    relation=(("dpo", {"retrained": {"gradient_accumulation_steps": 2}}),),
    # As in accumulated_equals_whole. Of three pairs of six one teaches nothing, so that microbatches weigh unequally.
    settings={
        "rows": 6,
        "unweighted": (1, 4),
        "preference": PreferenceSettings(enable=True, beta=0.3, label_smoothing=0.15),
        "train": TrainSettings(adam_eps=1e-4, gradient_clipping_threshold=0.0, schedule="constant"),
    },
    matrix={
        "mixtral": {"config": family("mixtral", num_decoder_layers=1)},
        "llama2": {"config": family("llama2", num_decoder_layers=2)},
    },
    quick=("mixtral",),
    faults=("both_pairs_weigh_by_microbatch",),
)
