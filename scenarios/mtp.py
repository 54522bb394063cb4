"""A step of models that predict further tokens: packed rows, one layer or two, dense or mixed, one table and head."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

# As in train_step, and so fast that guesses agree after one step: nothing is shown by a rate of 0.
FAST = TrainSettings(schedule="constant", learning_rate=0.1, adam_eps=1e-4)
ACCUMULATED = TrainSettings(schedule="constant", learning_rate=0.1, adam_eps=1e-4, gradient_accumulation_steps=2)
TILED = TrainSettings(schedule="constant", learning_rate=0.1, adam_eps=1e-4, num_vocab_tiling=4)
CALM = TrainSettings(adam_eps=1e-4)
TWO = {"mtp_num_layers": 2, "mtp_eval_target_module": 2, "num_decoder_layers": 2}
MIXED = {"mtp_num_layers": 1, "num_decoder_layers": 2}

SCENARIO = Scenario(
    why="what further tokens cost was silently 0, leaked into the state, hung on the wrong module, or crossed segments",
    program="train",
    settings={"steps": 2, "train": FAST, "offset": 3000},
    matrix={
        "llama2": {"config": family("llama2", **{**TWO, "mtp_eval_target_module": 0})},
        "qwen3-scan0": {"config": family("qwen3", **TWO, scan_layers=True, param_scan_axis=0)},
        "gemma2-scan1": {"config": family("gemma2", **TWO, scan_layers=True)},
        "accumulated-scan1": {
            "config": family("llama2", **{**TWO, "mtp_eval_target_module": 1}, scan_layers=True),
            "rows": 4,
            "train": ACCUMULATED,
        },
        "tiled-gemma2-scan1": {"config": family("gemma2", **TWO, scan_layers=True), "train": TILED},
        "tiled-llama2": {"config": family("llama2", **{**TWO, "mtp_eval_target_module": 1}), "rows": 4, "train": TILED},
        "deepseek": {"config": family("deepseek", **MIXED, first_num_dense_layers=1), "train": CALM},
        "deepseek-scan1": {"config": family("deepseek_mla_lora", **MIXED, scan_layers=True), "train": CALM},
    },
    quick=("deepseek-scan1",),
    faults=("further_loss_popped_first", "further_loss_leaks", "further_loss_crosses_segments"),
)
