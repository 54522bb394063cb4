"""A step of each mixture of experts: routing, dispatch, auxiliary losses by name, and the routing bias beside Adam."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

CALM = TrainSettings(adam_eps=1e-4)
SCALED = {"per_expert_scale": True, "load_balance_loss_weight": 0.05}

SCENARIO = Scenario(
    why="losses that layers sow were silently 0 under scan, and routing biases stood still after the flag was flipped",
    program="train",
    settings={"steps": 2, "train": CALM, "offset": 3000},
    matrix={
        "mixtral": {"config": family("mixtral")},
        "mixtral-scan1": {"config": family("mixtral", scan_layers=True)},
        "qwen3_moe-scan0": {"config": family("qwen3_moe", scan_layers=True, param_scan_axis=0)},
        "gpt_oss-scan1": {"config": family("gpt_oss", scan_layers=True)},
        "deepseek-scan1": {"config": family("deepseek", scan_layers=True)},
        "scaled": {"config": family("mixtral", **SCALED)},
        "scaled-fused-scan1": {"config": family("mixtral", **SCALED, fuse_expert_scales=True, scan_layers=True)},
        "limited-scan1": {"config": family("qwen3_moe", sparse_matmul=False, capacity_factor=0.7, scan_layers=True)},
        "accumulated-scan1": {
            "config": family("deepseek", scan_layers=True),
            "rows": 4,
            "train": TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=2),
        },
    },
    faults=("balance_silently_zero", "scan_drops_sown_values", "routing_bias_stands_still", "expert_scale_twice"),
    quick=("deepseek-scan1",),
)
