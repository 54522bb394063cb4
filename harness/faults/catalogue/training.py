"""Faults in the NNX train step: loss, gradients, accumulation, clipping, optimizer, and what it writes back.

Metrics are reported step by step, so that the channel "loss" shows a wrong update one step before "updates" does.
"""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

STATE, TRAIN, TRAINER = "impl/nnx/state.py", "impl/nnx/train.py", "impl/nnx/trainer.py"

OBJECTIVE = "value, terms = objective(logits, batch, settings)"
UPDATE = "self.optimizer.update(self.model, grads, **extra)"
OPTIMIZER = "init = init_state_fn(self.build, optimizer(settings), config, seed)"


def _optimizer(**fields: str) -> tuple[Edit, ...]:
    """Edits that give the optimizer other settings than the train step."""
    changes = ", ".join(f"{name}={value}" for name, value in fields.items())
    other = OPTIMIZER.replace("optimizer(settings)", f"optimizer(replace(settings, {changes}))")
    return (_imported(TRAINER, "import jax\n"), Edit(TRAINER, OPTIMIZER, other))


def _imported(file: str, before: str) -> Edit:
    return Edit(file, before, f"from dataclasses import replace\n\n{before}")


LOSS = (
    Fault(
        id="z_loss_dropped",
        title="the z-loss is silently 0",
        source="FM46",
        channel="claims",
        module="*z_loss is not zero",
        expect="claim",
        edits=(
            _imported(TRAIN, "import jax\n"),
            Edit(TRAIN, OBJECTIVE, OBJECTIVE.replace("settings)", "replace(settings, z_loss_multiplier=0.0))")),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="z_loss_weight",
        title="the z-loss weighs twice as much",
        source="B28",
        channel="loss",
        module="loss",
        edits=(
            _imported(TRAIN, "import jax\n"),
            Edit(TRAIN, OBJECTIVE, OBJECTIVE.replace("settings)", "replace(settings, z_loss_multiplier=2e-3))")),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="loss_over_all_tokens",
        title="what is differentiated is the mean over all tokens, padding included; the reported loss is right",
        source="B21",
        channel="loss",
        module="loss",
        edits=(Edit(TRAIN, OBJECTIVE, f"{OBJECTIVE}\n        value = value * terms.weights / batch.targets.size"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="weights_rounded",
        title="the train step runs on weights rounded to bfloat16",
        source="B48",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                TRAIN,
                "        logits, aux = passed(model, batch)\n",
                "        short = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), params)\n"
                "        nnx.update(model, short)\n        logits, aux = passed(model, batch)\n",
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
)

STEP = (
    Fault(
        id="clipping_missing",
        title="gradients above the threshold are not scaled down",
        source="FM61",
        channel="loss",
        module="optimizer",
        edits=(Edit(TRAIN, "grads = clipped(grads, raw_norm, settings)", "pass"),),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="clipping_after_update",
        title="gradients are clipped after the optimizer has used them",
        source="FM64",
        channel="loss",
        module="optimizer",
        edits=(
            Edit(
                TRAIN,
                "grads = clipped(grads, raw_norm, settings)\n        train_state.apply_gradients(grads)",
                "train_state.apply_gradients(grads)\n        grads = clipped(grads, raw_norm, settings)",
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="weight_decay_missing",
        title="weights do not decay",
        source="FM29",
        channel="loss",
        module="optimizer",
        edits=_optimizer(adam_weight_decay="0.0"),
        scenarios=(("train_trajectory", "adamw"),),
    ),
    Fault(
        id="adam_epsilon",
        title="Adam divides with another epsilon",
        source="FM09",
        channel="loss",
        module="optimizer",
        edits=_optimizer(adam_eps="1e-6"),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="schedule_off_by_one",
        title="the learning rate follows its schedule one step late",
        source="B09",
        channel="loss",
        module="optimizer",
        edits=_optimizer(warmup_steps="settings.warmup_steps + 1"),
        scenarios=(("train_trajectory", "adamw"),),
    ),
    Fault(
        id="moments_reset",
        title="the optimizer starts each step with fresh moments",
        source="FM23",
        channel="loss",
        module="optimizer",
        edits=(
            _imported(STATE, "import jax\n"),
            Edit(
                STATE,
                UPDATE,
                'moments = nnx.state(self.optimizer)["opt_state"]\n'
                "        zeros = [jax.numpy.zeros_like(x) if x.ndim else x for x in jax.tree.leaves(moments)]\n"
                "        nnx.update(self.optimizer.opt_state, jax.tree.unflatten(jax.tree.structure(moments), zeros))\n"
                f"        {UPDATE}",
            ),
        ),
        scenarios=(("train_trajectory", "adamw"),),
    ),
    Fault(
        id="custom_variable_not_trained",
        title="norm scales are of a Variable type that the filter for trained weights does not know",
        source="FM59",
        channel="outputs",
        module="*scale*",
        expect="error",
        edits=(
            Edit(
                "impl/nnx/layers.py",
                "return nnx.Param(jnp.full(",
                "return type('Scale', (nnx.Variable,), {})(jnp.full(",
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
    Fault(
        id="intermediates_leak",
        title="sown values leave the step as part of the state",
        source="B05",
        channel="outputs",
        module="*",
        expect="error",
        edits=(
            Edit(TRAIN, "nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate))", "nnx.Not(DIFFERENTIATED)"),
            Edit(
                TRAIN,
                "return nnx.state(train_state, nnx.Not(nnx.Intermediate)), metrics",
                "return nnx.state(train_state), metrics",
            ),
            Edit(
                "impl/nnx/transformer.py",
                "        return self.dropout(x)\n",
                '        self.sow(nnx.Intermediate, "embedded", x)\n        return self.dropout(x)\n',
            ),
        ),
        scenarios=(("train_step", "llama2-scan1"),),
    ),
)

ACCUMULATION = (
    Fault(
        id="accumulation_contiguous",
        title="microbatches hold neighbouring rows instead of every n-th",
        source="FM65",
        channel="loss",
        module="loss",
        edits=(Edit(TRAIN, "strided(field, count) for", "field.reshape(count, -1, *field.shape[1:]) for"),),
        scenarios=(("dropout_exact", "accumulated"),),
    ),
    Fault(
        id="accumulation_mean_of_means",
        title="each microbatch weighs the same, however many tokens it has",
        source="FM65",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                TRAIN,
                "grads, (terms, rest) = differentiate(params, rest, part)\n",
                "grads, (terms, rest) = differentiate(params, rest, part)\n"
                "        grads = scaled(grads, terms.weights * count)\n",
            ),
            Edit(TRAIN, "return scaled(total, terms.weights), terms, rest", "return total, terms, rest"),
        ),
        scenarios=(("gradient_accumulation", "one-empty-scan1"),),
    ),
    Fault(
        id="accumulation_not_divided",
        title="summed gradients are not divided by the summed weights",
        source="FM65",
        channel="loss",
        module="loss",
        edits=(Edit(TRAIN, "return scaled(total, terms.weights), terms, rest", "return total, terms, rest"),),
        scenarios=(("gradient_accumulation", "one-empty-scan1"),),
    ),
    Fault(
        id="accumulation_drops_rest",
        title="what a microbatch changed besides gradients (rng counters) is not carried to the next",
        source="FM65",
        channel="claims",
        module="steps draw different masks",
        expect="claim",
        edits=(
            Edit(
                TRAIN,
                "grads, (terms, rest) = differentiate(params, rest, part)",
                "grads, (terms, _) = differentiate(params, rest, part)",
            ),
        ),
        scenarios=(("dropout_determinism", "accumulated"),),
    ),
)

FAULTS: tuple[Fault, ...] = (*LOSS, *STEP, *ACCUMULATION)
