"""Faults of QK-Clip: what is measured, how much shrinks, which kernels, and when; on one side or on both alike."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

MATHS, TREE, TRAIN = "impl/math/clip.py", "impl/training/clip.py", "impl/nnx/train.py"
OWN = "_times(own, jnp.sqrt(scales))"
CLIP = "        _rewrite(model, clipped_heads, aux[PEAKS])\n"
UPDATE = "        train_state.apply_gradients(grads)\n"
BY_HEAD = "decoder/*/kernel is what the optimizer made of it, clipped by head"

ONE_SIDE = (
    Fault(
        id="clip_logits_leak",
        title="the logits that attention records leave the train step as part of the state",
        source="B05",
        channel="outputs",
        module="*changed the structure of the state*max_logits*",
        expect="error",
        edits=(
            Edit(
                "impl/nnx/state.py",
                "    made, sown = nnx.capture(call, nnx.Intermediate)(*inputs)\n    return made, state_paths(sown)\n",
                "    made = call(*inputs)\n    return made, state_paths(nnx.state(call, nnx.Intermediate))\n",
            ),
            Edit(TRAIN, "nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate))", "nnx.Not(DIFFERENTIATED)"),
            Edit(
                TRAIN,
                "return nnx.state(train_state, nnx.Not(nnx.Intermediate)), metrics",
                "return nnx.state(train_state), metrics",
            ),
        ),
        scenarios=(("qk_clip", "plain"),),
    ),
    Fault(
        id="linen_clip_finds_nothing",
        title="Linen's parameters are below a key of their own, where no kernel is looked for: nothing is clipped",
        source="S1",
        channel="claims",
        module=BY_HEAD,
        expect="claim",
        edits=(
            Edit(
                TREE,
                "in enumerate(every_layer(config)):",
                'in enumerate(every_layer(config) if any(path[0] == "decoder" for path in leaves) else ()):',
            ),
        ),
        scenarios=(("qk_clip", "lora-scan1"),),
    ),
    Fault(
        id="clip_before_update",
        title="kernels are clipped before the optimizer's update instead of after it",
        source="FM64",
        channel="claims",
        module=BY_HEAD,
        expect="claim",
        edits=(
            Edit(TRAIN, UPDATE, f"        _rewrite(train_state.model, clipped_heads, terms.aux[PEAKS])\n{UPDATE}"),
            Edit(TRAIN, "    if PEAKS in aux:\n", "    if PEAKS in ():\n"),
        ),
        scenarios=(("qk_clip", "lora-scan1"),),
    ),
    Fault(
        id="clip_twice",
        title="kernels are clipped twice by the same logits",
        source="C7",
        channel="claims",
        module=BY_HEAD,
        expect="claim",
        edits=(Edit(TRAIN, CLIP, CLIP + CLIP),),
        scenarios=(("qk_clip", "lora-scan1"),),
    ),
)

BOTH_SIDES = (
    Fault(
        id="both_layers_share_a_scale",
        title="stacked layers are clipped by the largest logit of any of them, on both sides alike",
        source="B25",
        channel="claims",
        module=BY_HEAD,
        expect="claim",
        edits=(
            Edit(
                TREE,
                "return scales if config.param_scan_axis else scales[:, None]",
                "return jnp.min(scales, axis=0)[None]",
            ),
        ),
        scenarios=(("qk_clip", "lora-scan1"),),
    ),
    Fault(
        id="both_clip_without_root",
        title="queries and keys shrink by the whole factor each, on both sides alike: their products by its square",
        source="C7",
        channel="claims",
        module=BY_HEAD,
        expect="claim",
        edits=(
            Edit(MATHS, f"[{OWN}, _times(turning", "[_times(own, scales), _times(turning"),
            Edit(MATHS, f"[{OWN}, value]", "[_times(own, scales), value]"),
        ),
        scenarios=(("qk_clip", "plain"),),
    ),
    Fault(
        id="both_queries_not_clipped",
        title="queries that are not compressed have a kernel of another name, and it is never clipped",
        source="C7",
        channel="claims",
        module="decoder/*/query/kernel is what the optimizer made of it, clipped by head",
        expect="claim",
        edits=(
            Edit(
                TREE,
                'return {"wq_b" if config.q_lora_rank else "query": clipped_query, "wkv_b": clipped_up}',
                'return {"wkv_b": clipped_up} | ({"wq_b": clipped_query} if config.q_lora_rank else {})',
            ),
        ),
        scenarios=(("qk_clip", "plain"),),
    ),
    Fault(
        id="both_logits_added_up",
        title="the largest logits of microbatches are added up like losses, on both sides alike",
        source="C3",
        channel="claims",
        module="the reported logit is the largest",
        expect="claim",
        edits=(
            Edit("impl/training/auxiliary.py", "MASKED, full())", "0.0, full())"),
            Edit(
                "impl/training/objective.py",
                "(jnp.maximum if name == PEAKS else jnp.add)",
                "jnp.add",
            ),
        ),
        scenarios=(("qk_clip", "accumulated-scan1"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*ONE_SIDE, *BOTH_SIDES)
