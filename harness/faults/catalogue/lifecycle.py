"""Faults in what outlives a step on the NNX side: dropout streams, checkpoints, resuming, conversion, refusals."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

MODEL, TRAIN, TRAINER = "impl/nnx/transformer.py", "impl/nnx/train.py", "impl/nnx/trainer.py"
STATE = "impl/nnx/state.py"

DROPOUT = (
    Fault(
        id="dropout_off_in_training",
        title="training runs in evaluation mode",
        source="FM32",
        channel="claims",
        module="steps draw different masks",
        expect="claim",
        edits=(Edit(TRAIN, "train_state.model.train()", "train_state.model.eval()"),),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="dropout_on_in_evaluation",
        title="evaluation forgets to switch dropout off",
        source="FM33",
        channel="outputs",
        module="model",
        edits=(Edit(TRAINER, "        model.eval()\n", "        model.train()\n"),),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="dropout_before_residual",
        title="dropout falls on the MLP's output and no longer on what it was added to: only masks alike show it",
        source="FM32",
        channel="loss",
        module="decoder/layers/0/dropout",
        edits=(
            Edit("impl/nnx/blocks.py", "return self.dropout(x + self.mlp(x))", "return x + self.dropout(self.mlp(x))"),
        ),
        scenarios=(("dropout_exact", "gpt3-scan0"),),
    ),
    Fault(
        id="dropout_same_mask_each_step",
        title="rng counters are not written back, so that every step draws the same masks",
        source="FM34",
        channel="claims",
        module="steps draw different masks",
        expect="claim",
        edits=(Edit(TRAIN, "    nnx.update(model, rest)\n", ""),),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="dropout_same_mask_each_layer",
        title="one rng state is broadcast to all scanned layers",
        source="FM35",
        channel="claims",
        module="layers draw different masks",
        expect="claim",
        edits=(
            Edit(
                MODEL,
                "body = self._rematerialised(group, _block_step(graphdef, mode))\n        x, rest = jax.lax.scan(",
                "rest = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), rest)\n"
                "        body = self._rematerialised(group, _block_step(graphdef, mode))\n"
                "        x, rest = jax.lax.scan(",
            ),
        ),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="dropout_scan_state_discarded",
        title="rng counters that advanced inside the scan are thrown away; those outside advance",
        source="S9",
        channel="claims",
        module="*masks*",
        expect="claim",
        edits=(
            Edit(
                MODEL,
                "nnx.update(stack, rest)",
                "nnx.update(stack, nnx.filter_state(rest, nnx.Intermediate))",
            ),
        ),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
    Fault(
        id="dropout_remat_state_discarded",
        title="rng counters that advanced inside rematerialised layers are thrown away",
        source="FM39",
        channel="claims",
        module="*masks*",
        expect="claim",
        edits=(Edit(MODEL, "nnx.update(layer, rest)", "nnx.update(layer, nnx.filter_state(rest, nnx.Intermediate))"),),
        scenarios=(("dropout_determinism", "remat"),),
    ),
    Fault(
        id="dropout_rate_ignored",
        title="dropout drops half as often as configured",
        source="FM02",
        channel="claims",
        module="the drop rate is the configured one",
        expect="claim",
        edits=(Edit("impl/nnx/layers.py", "rate=config.dropout_rate,", "rate=config.dropout_rate / 2,"),),
        scenarios=(("dropout_determinism", "llama2-scan1"),),
    ),
)

DISK = (
    Fault(
        id="resume_forgets_moments",
        title="moments are silently reset at resume",
        source="FM23",
        channel="claims",
        module="*resumes",
        expect="claim",
        edits=(
            Edit(
                TRAINER,
                "        typed = jax.tree.map(_like,",
                '        raw["optimizer"]["opt_state"] = _raw(self.state)["optimizer"]["opt_state"]\n'
                "        typed = jax.tree.map(_like,",
            ),
        ),
        scenarios=(("resume", "quiet-scan0"),),
    ),
    Fault(
        id="resume_restarts_dropout",
        title="rng streams do not come back: each resume starts the same masks again",
        source="B34",
        channel="claims",
        module="*resumes",
        expect="claim",
        edits=(
            Edit(
                TRAINER,
                "        typed = jax.tree.map(_like,",
                "        def kept(path, new, old):\n            return old if 'rngs' in str(path) else new\n\n"
                "        raw = jax.tree_util.tree_map_with_path(kept, raw, _raw(self.state))\n"
                "        typed = jax.tree.map(_like,",
            ),
        ),
        scenarios=(("resume", "dropout-scan1"),),
    ),
    Fault(
        id="crossing_restarts_dropout",
        title="a checkpoint that was Linen's is taken up with the random streams of step 0",
        source="FM24",
        channel="claims",
        module="all that is saved at the break",
        expect="claim",
        edits=(
            Edit(
                TRAINER,
                'passes = int(tree["optimizer"]["step"]) * self.settings.gradient_accumulation_steps',
                "passes = 0",
            ),
        ),
        scenarios=(("crossing", "dropout-scan1"),),
    ),
    Fault(
        id="conversion_forgets_moments",
        title="converted checkpoints come with the first moments in the place of the second",
        source="FM23",
        channel="claims",
        module="own through * is byte-equal",
        expect="claim",
        edits=(
            Edit(
                "impl/checkpoint/conversion/convert.py",
                "    changed = relayout(canonical, request.layout, request.scan_axis, request.cycle)\n",
                "    changed = relayout(canonical, request.layout, request.scan_axis, request.cycle)\n"
                "    changed = replace(changed, slots={**changed.slots, '0/nu': changed.slots['0/mu']})\n",
            ),
        ),
        scenarios=(("conversion", "scan1"),),
    ),
    Fault(
        id="nnx_accepts_missing_weight",
        title="a missing weight keeps whatever the abstract state holds, and nobody is told",
        source="FM18",
        channel="claims",
        module="weight missing is refused",
        expect="claim",
        edits=(
            Edit(
                STATE,
                "    arrays = overlay(nnx.to_pure_dict(abstract), nested({(*root, *path): leaf",
                "    whole = state_paths(abstract).items()\n"
                "    zeros = {path[len(root) :]: np.zeros(leaf.shape, leaf.dtype) for path, leaf in whole}\n"
                "    leaves = {**zeros, **leaves}\n"
                "    arrays = overlay(nnx.to_pure_dict(abstract), nested({(*root, *path): leaf",
            ),
            Edit(
                "impl/names.py",
                '    problems += [nearest(f"{name} has no value", name, values) for name in table if name',
                "    table = {name: address for name, address in table.items() if name in values}\n"
                '    problems += [nearest(f"{name} has no value", name, values) for name in table if name',
            ),
        ),
        scenarios=(("bad_input", "unscanned"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*DROPOUT, *DISK)
