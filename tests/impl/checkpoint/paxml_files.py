"""A GPT-3 as Paxml would have saved it: its arrays drawn here, in Paxml's own axes, and written as zarr folders.

Letters: L 3 layers, V vocab 13, P positions 9, E embed 6, F mlp 10, H heads 2, D head 4, 3 for query, key and value.
"""

from __future__ import annotations

import numpy as np
import tensorstore

from tests.impl.checkpoint.parts import values

SIZES = {"L": 3, "V": 13, "P": 9, "E": 6, "F": 10, "H": 2, "D": 4, "3": 3}
BLOCK = "lm.transformer.repeat.sub.x_layers_0"
AXES = {
    "lm.softmax.logits_ffn.linear.w": "EV",
    "lm.position_emb.emb_var": "PE",
    "lm.final_ln.scale": "E",
    "lm.final_ln.bias": "E",
    f"{BLOCK}.layer_norm.scale": "LE",
    f"{BLOCK}.layer_norm.bias": "LE",
    f"{BLOCK}.self_attention.combined_qkv.w": "L3EHD",
    f"{BLOCK}.self_attention.combined_qkv.b": "L3HD",
    f"{BLOCK}.self_attention.post.w": "LEHD",
    f"{BLOCK}.self_attention.post.b": "LE",
    f"{BLOCK}.ff_layer.layer_norm.scale": "LE",
    f"{BLOCK}.ff_layer.layer_norm.bias": "LE",
    f"{BLOCK}.ff_layer.ffn_layer1.linear.w": "LEF",
    f"{BLOCK}.ff_layer.ffn_layer1.bias.b": "LF",
    f"{BLOCK}.ff_layer.ffn_layer2.linear.w": "LFE",
    f"{BLOCK}.ff_layer.ffn_layer2.bias.b": "LE",
}


def key(part, name):
    """Folder of a weight ("") or of a moment ("m", "v")."""
    if not part:
        return f"mdl_vars.params.{name}"
    prefix = "p#3#i-1_2" if "x_layers_0" in name else "no_prefix_2"
    return f"opt_states_0.{prefix}.{part}.params.{name}"


def arrays(parts=("", "m", "v")):
    """{folder: array} of a whole checkpoint at step 4000; parts: weights, first and second moments."""
    found = {"step": np.asarray(4000, np.int32)}
    if len(parts) > 1:
        found["opt_states_0.no_prefix_0.count"] = np.asarray(4001, np.int32)
    for part in parts:
        for name, axes in AXES.items():
            shape = tuple(SIZES[letter] for letter in axes)
            found[key(part, name)] = values(f"{part}{name}", shape, "bfloat16" if part == "m" else "float32")
    return found


def write(folder, content):
    """Writes each array as a zarr folder, in two chunks along its first axis."""
    for name, array in content.items():
        chunks = [max(1, -(-array.shape[0] // 2)), *array.shape[1:]] if array.ndim else []
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": f"{folder / name}/"},
            "metadata": {"chunks": chunks, "compressor": None},
        }
        dtype, shape = array.dtype.name, list(array.shape)
        store = tensorstore.open(spec, create=True, dtype=dtype, shape=shape).result()
        store.write(array).result()


OUTSIDE = {
    "token_embedder/embedding": ("lm.softmax.logits_ffn.linear.w", "VE"),
    "decoder/position_embedder/embedding": ("lm.position_emb.emb_var", "PE"),
    "decoder/decoder_norm/scale": ("lm.final_ln.scale", "E"),
    "decoder/decoder_norm/bias": ("lm.final_ln.bias", "E"),
}
INSIDE = {
    "self_attention/out/kernel": ("self_attention.post.w", "HDE"),
    "self_attention/out/bias": ("self_attention.post.b", "E"),
    "pre_self_attention_norm/scale": ("layer_norm.scale", "E"),
    "pre_self_attention_norm/bias": ("layer_norm.bias", "E"),
    "mlp/mlp_layer_norm/scale": ("ff_layer.layer_norm.scale", "E"),
    "mlp/mlp_layer_norm/bias": ("ff_layer.layer_norm.bias", "E"),
    "mlp/wi/kernel": ("ff_layer.ffn_layer1.linear.w", "EF"),
    "mlp/wi/bias": ("ff_layer.ffn_layer1.bias.b", "F"),
    "mlp/wo/kernel": ("ff_layer.ffn_layer2.linear.w", "FE"),
    "mlp/wo/bias": ("ff_layer.ffn_layer2.bias.b", "E"),
}
QKV = {"kernel": ("self_attention.combined_qkv.w", "EHD"), "bias": ("self_attention.combined_qkv.b", "HD")}


def decoder(part, scan_axis=1, *, fused=True, layer=-1):
    """The leaves that the decoder has for the arrays of `part`, by einsum; layer: that one alone, of those stacked."""
    held = arrays(("", part) if part else ("",))
    found = {}

    def put(rest, array, axes, letters):
        if layer >= 0:
            found[f"decoder/layers_{layer}/{rest}"] = np.einsum(f"{axes[1:]}->{letters}", array[layer])
        else:
            at = min(scan_axis, len(letters))
            found[f"decoder/layers/{rest}"] = np.einsum(f"{axes}->{letters[:at]}L{letters[at:]}", array)

    for rest, (name, letters) in INSIDE.items():
        put(rest, held[key(part, f"{BLOCK}.{name}")], AXES[f"{BLOCK}.{name}"], letters)
    for leaf, (name, letters) in QKV.items():
        array = held[key(part, f"{BLOCK}.{name}")]
        if fused:
            put(f"self_attention/qkv_proj/{leaf}", array, f"LX{letters}", letters.replace("HD", "XHD"))
        for index, each in enumerate(() if fused else ("query", "key", "value")):
            put(f"self_attention/{each}/{leaf}", array[:, index], f"L{letters}", letters)
    for path, (name, letters) in OUTSIDE.items() if layer < 0 else ():
        found[path] = np.einsum(f"{AXES[name]}->{letters}", held[key(part, name)])
    return found
