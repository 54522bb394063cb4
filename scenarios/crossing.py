"""The square: what one side saved the other takes up, and training goes on, with every optimizer and with dropout."""

from harness import Scenario
from impl.tiny import family

ADAM_PAX = {"opt_type": "adam_pax"}
SGD = {"opt_type": "sgd"}

SCENARIO = Scenario(
    why="a run that changes sides in its middle keeps moments, schedule and random streams: one of them that starts "
    "again is seen months later, if ever",
    program="crossing",
    settings={"steps": 4},
    matrix={
        "dropout-scan1": {"config": family("llama2", dropout_rate=0.3, scan_layers=True)},
        "dropout": {"config": family("gpt3", dropout_rate=0.3)},
        "adam_pax-dropout": {"config": family("llama2", dropout_rate=0.3), "retrained": ADAM_PAX},
        "sgd-dropout-scan0": {
            "config": family("qwen3", dropout_rate=0.3, scan_layers=True, param_scan_axis=0),
            "retrained": SGD,
        },
        "dropout-microbatches": {
            "config": family("llama2", dropout_rate=0.3, scan_layers=True),
            "retrained": {"gradient_accumulation_steps": 3},
        },
        "adam_pax-scan1": {"config": family("gpt3", scan_layers=True), "retrained": ADAM_PAX},
        "sgd": {"config": family("gemma2"), "retrained": SGD},
        "fp8-scan1": {
            "config": family("gpt3", scan_layers=True, num_decoder_layers=2, quantization="fp8", amax_history_length=3)
        },
    },
    faults=("crossing_restarts_dropout",),
    quick=("dropout-scan1",),
)
