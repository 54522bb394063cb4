"""Where every leaf of the train state lies on eight devices, at the start and after steps, on both sides."""

from harness import Scenario
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

# Every axis that rules speak of is larger than 1 somewhere: a size of 1 hides what is wrong along it.
BOTH = Plan(mesh={"fsdp": 2, "tensor": 2, "expert": 2})
TURNED = Plan(mesh={"fsdp_transpose": 2, "context": 2, "stage": 2})
ZERO = Plan(mesh={"data": 2, "fsdp": 2, "tensor": 2}, zero=1)

SCENARIO = Scenario(
    why="a scan axis lost after the first step, or slots left whole, cost memory and time that no loss shows",
    program="sharded",
    settings={"rows": 8, "steps": 2},
    matrix={
        "fsdp-tensor-scan1": {"config": family("qwen3", vocab_size=260, scan_layers=True), "plan": BOTH},
        "transposed-scan0": {
            "config": family("llama2", vocab_size=260, num_decoder_layers=4, scan_layers=True, param_scan_axis=0),
            "plan": TURNED,
        },
        "unscanned-gemma2": {"config": family("gemma2", vocab_size=260), "plan": BOTH},
        "zero-accumulated": {
            "config": family("llama2", vocab_size=260, scan_layers=True),
            "plan": ZERO,
            "train": TrainSettings(gradient_accumulation_steps=2),
        },
        "mtp": {"config": family("qwen3", vocab_size=260, mtp_num_layers=1, num_decoder_layers=1), "plan": BOTH},
        "offloaded": {
            "config": family("qwen3", vocab_size=260, parameter_memory_host_offload=True),
            "plan": Plan(mesh={"fsdp": 2, "tensor": 2}),
        },
    },
    devices=8,
    gibibytes=4.0,
    quick=("fsdp-tensor-scan1",),
    faults=("nnx_rules_last_wins",),
)
