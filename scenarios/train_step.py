"""One update of every family: structure, loss terms, gradients, and weights and moments after three steps."""

from harness import Scenario
from impl.tiny import FAMILIES, family
from impl.training.settings import TrainSettings

# A key's bias has no gradient but rounding, which differs between machines. Adam would blow it up to whole steps, so
# its epsilon is raised above it here: a golden must not hold noise.
CALM = TrainSettings(adam_eps=1e-4)

SCENARIO = Scenario(
    why="the train step is what the flag changes first: same weights, same batch, same update, whatever the layout",
    program="train",
    settings={"steps": 3, "train": CALM},
    matrix={
        **{name: {"config": family(name), "offset": 0 if name == "gpt3" else 3000} for name in FAMILIES},
        **{f"{name}-scan1": {"config": family(name, scan_layers=True)} for name in FAMILIES},
        **{
            f"{name}-scan0": {"config": family(name, scan_layers=True, param_scan_axis=0)}
            for name in ("llama2", "gpt3")
        },
        "remat-full": {"config": family("llama2", remat_policy="full")},
        "remat-minimal-scan1": {"config": family("qwen3", remat_policy="minimal", scan_layers=True)},
        "remat-names-scan0": {
            "config": family("gemma2", remat_policy="save_dot_except_mlp", scan_layers=True, param_scan_axis=0)
        },
        "bf16": {"config": family("llama2", dtype="bfloat16")},
        "bf16-weights-scan1": {
            "config": family("gemma2", dtype="bfloat16", weight_dtype="bfloat16", scan_layers=True),
            # Adam's steps are rounded away in bfloat16 weights, or are whole steps of noise; and a second step would
            # start from weights that another machine may have rounded to their other neighbour.
            "steps": 1,
            "train": TrainSettings(opt_type="sgd", learning_rate=32.0, schedule="constant"),
        },
        "bf16-gpt3": {"config": family("gpt3", dtype="bfloat16")},
        "eleven-layers": {"config": family("llama2", num_decoder_layers=11)},
    },
    faults=("norm_epsilon", "gate_up_swapped", "rope_halves"),
    quick=("llama2", "gemma2-scan1", "gpt3-scan0", "eleven-layers"),
)
