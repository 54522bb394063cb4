"""Training in 8-bit floats: statistics after every step, scanned, rematerialised, over microbatches, every flavour."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

CALM = TrainSettings(adam_eps=1e-2, gradient_clipping_threshold=0.25)  # every step is clipped


def fp8(name, flavour="fp8", **settings):
    """A short history: within five steps an amax comes and goes."""
    return family(name, quantization=flavour, amax_history_length=3, **settings)


SCENARIO = Scenario(
    why="statistics are replaced by their gradients: descended, clipped, lost in a scan or between microbatches they "
    "leave scales that never move, and training stands still without an error",
    program="fp8",
    settings={"steps": 5, "train": CALM},
    matrix={
        "scan1": {"config": fp8("gpt3", scan_layers=True)},
        "gpu-bf16-remat": {
            "config": fp8("fused", "fp8_gpu", dtype="bfloat16", remat_policy="full", num_decoder_layers=2),
            "steps": 2,  # what another compiler rounds otherwise grows step by step
        },
        "nanoo-accumulated-scan0": {
            "config": fp8("gpt3", "fp8_nanoo", scan_layers=True, param_scan_axis=0, remat_policy="minimal"),
            "train": TrainSettings(adam_eps=1e-2, gradient_clipping_threshold=0.25, gradient_accumulation_steps=3),
            "rows": 6,
            "steps": 2,
        },
        "llama2-bf16-scan1": {"config": fp8("llama2", dtype="bfloat16", scan_layers=True)},
        "gpu-qwen3-scan1-remat": {"config": fp8("qwen3", "fp8_gpu", scan_layers=True, remat_policy="full")},
        "mtp-scan1": {"config": fp8("llama2", mtp_num_layers=2, num_decoder_layers=2, scan_layers=True)},
    },
    quick=("scan1",),
    faults=("fp8_descended", "fp8_clipped", "fp8_lost_in_accumulation", "fp8_stale_tracer"),
)
