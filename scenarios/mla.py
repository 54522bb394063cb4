"""A step of deepseek with latent attention: dense and mixed layers, queries compressed or not, scanned and not."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

PLAIN, LORA = "deepseek_mla", "deepseek_mla_lora"

SCENARIO = Scenario(
    why="one latent feeds keys and values of every head: a part turned, normed or scaled otherwise moves everything",
    program="train",
    settings={"steps": 2, "train": TrainSettings(adam_eps=1e-4), "offset": 3000},
    matrix={
        "plain": {"config": family(PLAIN)},
        "plain-scan1": {"config": family(PLAIN, scan_layers=True)},
        "lora": {"config": family(LORA)},
        "lora-scan1": {"config": family(LORA, scan_layers=True)},
        "lora-scan0-remat": {
            "config": family(LORA, scan_layers=True, param_scan_axis=0, remat_policy="save_dot_except_mlp")
        },
    },
    quick=("lora-scan1",),
    faults=("latent_not_normed", "shared_key_not_turned", "stretch_forgotten"),
)
