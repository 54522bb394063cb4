"""A step on eight devices is the same step on one, on each side by itself."""

from harness import Scenario
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

# Clipping off: a norm that only nearly reaches its threshold would be a choice and no rounding. One layer and no
# moments: the runs that measure noise go operation by operation, and on many devices each costs a program.
PLAIN = TrainSettings(opt_type="sgd", learning_rate=0.1, gradient_clipping_threshold=0.0, schedule="constant")
CONFIG = family("llama2", vocab_size=260, num_decoder_layers=1, max_target_length=12)

SCENARIO = Scenario(
    why="both sides could reduce over the wrong devices alike; one device, which reduces over none, is the witness",
    program="sharded_train",
    relation=(("single_train", {}),),
    settings={"rows": 4, "config": CONFIG, "train": PLAIN},
    matrix={
        "data": {"plan": Plan(mesh={"data": 2, "fsdp": 2})},
        "tensor-context": {"plan": Plan(mesh={"tensor": 2, "context": 2})},
    },
    devices=8,
    gibibytes=4.0,
    quick=("data",),
    faults=("both_share_rows_twice",),
)
