"""Training on eight devices: losses, weights and slots after two steps, both sides on the same mesh."""

from harness import Scenario
from impl.sharding.plan import Plan
from impl.tiny import family
from impl.training.settings import TrainSettings

CALM = TrainSettings(adam_eps=1e-4)
FURTHER = family("llama2", vocab_size=260, mtp_num_layers=1, num_decoder_layers=2, scan_layers=True)

SCENARIO = Scenario(
    why="the same placements must give the same numbers: a reduction over the wrong devices is a wrong gradient",
    program="sharded_train",
    settings={"rows": 8, "steps": 2, "config": family("llama2", vocab_size=260, num_decoder_layers=1), "train": CALM},
    matrix={
        "explicit": {"plan": Plan(mesh={"fsdp": 2, "tensor": 2, "expert": 2}, axis_types="explicit")},
        "explicit-tiled": {
            "config": family("gemma2", vocab_size=260, scan_layers=True, num_decoder_layers=2),
            "plan": Plan(mesh={"fsdp": 2, "tensor": 2, "expert": 2}, axis_types="explicit"),
            "train": TrainSettings(adam_eps=1e-4, num_vocab_tiling=4),
        },
        "boundary": {"plan": Plan(mesh={"context": 2, "fsdp": 2, "tensor": 2}, axis_types="boundary")},
        "context": {"plan": Plan(mesh={"context": 2, "fsdp": 2})},
        "offloaded": {
            "config": family("llama2", vocab_size=260, num_decoder_layers=1, parameter_memory_host_offload=True),
            "plan": Plan(mesh={"fsdp": 2, "tensor": 2}),
            "train": TrainSettings(adam_eps=1e-4, num_vocab_tiling=4, gradient_accumulation_steps=2),
        },
        "zero-accumulated": {
            "config": family("qwen3", vocab_size=260, scan_layers=True),
            "plan": Plan(mesh={"data": 2, "fsdp": 2, "tensor": 2}, zero=1),
            "train": TrainSettings(adam_eps=1e-4, gradient_accumulation_steps=2),
        },
        "mtp-scan1": {"config": FURTHER, "plan": Plan(mesh={"fsdp": 2, "tensor": 2, "context": 2})},
    },
    devices=8,
    gibibytes=4.0,
    quick=("zero-accumulated",),
    faults=("spread_accumulation_mean_of_means", "explicit_axes_of_size_one", "offload_misses_a_norm"),
)
