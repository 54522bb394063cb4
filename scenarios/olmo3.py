"""Layers that norm what they add, with dropout made in the constructor, and norms that store scale - 1."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

CENTRED = {"dropout_rate": 0.25, "normalization_layer_epsilon": 3e-4}

SCENARIO = Scenario(
    why="a dropout built where it is called failed or repeated its masks, and a norm lost its epsilon or its offset",
    program="train",
    settings={"steps": 2, "train": TrainSettings(adam_eps=1e-4)},
    draws="replayed",
    matrix={
        "scan1": {"config": family("olmo3", dropout_rate=0.3, scan_layers=True)},
        "scan0": {"config": family("olmo3", dropout_rate=0.3, scan_layers=True, param_scan_axis=0)},
        "remainder-scan1": {"config": family("olmo3", dropout_rate=0.3, scan_layers=True, num_decoder_layers=5)},
        "unscanned": {"config": family("olmo3", dropout_rate=0.3)},
        "zero_centred": {"config": family("zero_centred", **CENTRED)},
        "zero_centred-scan1": {"config": family("zero_centred", **CENTRED, scan_layers=True)},
    },
    faults=(
        *("olmo3_dropout_built_in_the_call", "olmo3_norms_the_sum", "olmo3_global_layers_see_a_window"),
        *("centred_norm_without_offset", "centred_norm_without_epsilon"),
    ),
    quick=("scan1",),
)
