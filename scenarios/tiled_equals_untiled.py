"""A loss made tile by tile is the loss made at once, with every gradient, on each side by itself."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

SCENARIO = Scenario(
    why="a derivative written by hand was wrong by the number of tokens on both sides alike; the loss at once tells",
    program="gradients",
    relation=(("gradients", {"retrained": {"num_vocab_tiling": 4}}),),
    settings={"train": TrainSettings(z_loss_multiplier=0.02)},
    # In bfloat16 tiles round their parts of the head's gradient one by one: tests/impl/math bounds that.
    matrix={
        "llama2": {"config": family("llama2"), "offset": 3000},
        "gemma2": {"config": family("gemma2", scan_layers=True, num_decoder_layers=1)},
        "mtp": {
            "config": family("llama2", mtp_num_layers=2, mtp_eval_target_module=1, num_decoder_layers=1),
            "offset": 3000,
        },
        "gpt3": {"config": family("gpt3", scan_layers=True, num_decoder_layers=2)},
    },
    quick=("gemma2",),
    faults=("both_tile_without_factor", "both_keep_the_last_tile"),
)
