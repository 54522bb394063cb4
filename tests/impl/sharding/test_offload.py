"""Parameters in the host's memory: where leaves are said to be, and which models refuse."""

from __future__ import annotations

import pytest

from impl.config import ConfigError
from impl.sharding_programs import shardings
from impl.tiny import family

HOST = {"parameter_memory_host_offload": True}


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_parameters_are_on_the_host_and_nothing_else_is(name):
    settings = {"config": family("qwen3", num_decoder_layers=1, **HOST)}
    found = shardings(name, settings, {"fsdp": 2}, "")
    slots = {leaf for leaf in found if leaf[0].isdigit() or leaf == "step"}
    assert {found[leaf].memory for leaf in slots} == {"device"}
    assert {found[leaf].memory for leaf in found.keys() - slots} == {"pinned_host"}
    assert "decoder/layers/0/pre_self_attention_layer_norm/scale" in found.keys() - slots


@pytest.mark.parametrize(
    ("wrong", "settings"),
    [
        ("experts", {"name": "mixtral"}),
        ("layers stacked at axis 1", {"name": "llama2", "scan_layers": True}),
        ("8-bit products", {"name": "llama2", "quantization": "fp8"}),
    ],
)
def test_what_reads_parameters_without_fetching_them_is_refused(wrong, settings):
    with pytest.raises(ConfigError, match=f"parameter_memory_host_offload does not go with {wrong}: set it to False"):
        family(**settings, **HOST)
