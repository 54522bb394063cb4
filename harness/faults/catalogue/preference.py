"""Faults in NNX's preference optimisation: what counts, what a pair costs, and a reference that does not stay put."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

DPO, TRAINER = "impl/nnx/dpo.py", "impl/nnx/dpo_trainer.py"

OBJECTIVE = "preference_objective(ours, theirs, pair_masks(batch, preference), settings, preference)"
FIXED = "theirs = jax.lax.stop_gradient(logps_of(reference_model, batch, preference))"
APPLIED = "train_state.apply_gradients(grads)\n"
SMOOTHED, EMPTY = ("dpo", "llama2-scan1-smoothed"), ("dpo", "qwen3-one-empty-scan1")


def _with(**fields: str) -> tuple[Edit, ...]:
    """Edits that give the loss other settings than the rest of the step."""
    changes = ", ".join(f"{name}={value}" for name, value in fields.items())
    other = OBJECTIVE.replace("settings, preference)", f"settings, replace(preference, {changes}))")
    imported = Edit(DPO, "import jax\nimport", "from dataclasses import replace\n\nimport jax\nimport")
    return (imported, Edit(DPO, OBJECTIVE, other))


LOSS = (
    Fault(
        id="dpo_prefix_counts",
        title="what both halves begin with counts as completion: margins hardly move, rewards do",
        source="MT:d825b6830",
        channel="outputs",
        module="loss",
        edits=(
            Edit(
                DPO,
                "    return pair_logps(logits, batch, pair_masks(batch, preference)), ",
                "    real = [half[:, 1:] != 0 for half in (batch.chosen_segments, batch.rejected_segments)]\n"
                "    return pair_logps(logits, batch, Pairs(*real)), ",
            ),
        ),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_halves_swapped",
        title="the rejected half is learnt and the chosen one unlearnt",
        source="MT:d825b6830",
        channel="loss",
        module="loss",
        edits=(Edit(DPO, OBJECTIVE, OBJECTIVE.replace("ours, theirs", "Pairs(*ours[::-1]), Pairs(*theirs[::-1])")),),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_beta_dropped",
        title="rewards are not scaled by beta",
        source="MT:d825b6830",
        channel="loss",
        module="loss",
        edits=_with(beta="1.0"),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_beta_twice",
        title="rewards are scaled by beta twice",
        source="C1",
        channel="loss",
        module="loss",
        edits=_with(beta="preference.beta**2"),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_smoothing_ignored",
        title="every label is taken to be right",
        source="MT:d825b6830",
        channel="loss",
        module="loss",
        edits=_with(label_smoothing="0.0"),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_microbatches_weigh_alike",
        title="each microbatch weighs the same, however many pairs of it count",
        source="C5",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                DPO,
                "grads, (terms, rest) = differentiate(params, rest, reference, part, shares)\n",
                "grads, (terms, rest) = differentiate(params, rest, reference, part, shares)\n"
                "            grads = scaled(grads, terms.pairs * count)\n",
            ),
            Edit(DPO, "return scaled(total, terms.pairs), terms, rest", "return total, terms, rest"),
        ),
        scenarios=(EMPTY,),
    ),
)

REFERENCE = (
    Fault(
        id="dpo_reference_is_policy",
        title="the policy is held against itself: every pair costs ln 2 for ever",
        source="B20",
        channel="loss",
        module="loss",
        edits=(Edit(DPO, FIXED, FIXED.replace("reference_model", "model")),),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_gradient_reaches_reference",
        title="nothing stops gradients before the reference",
        source="B60",
        channel="claims",
        module="*of the reference has no gradient",
        expect="claim",
        edits=(Edit(DPO, FIXED, "theirs = logps_of(reference_model, batch, preference)"),),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_reference_trained",
        title="the optimizer's update reaches the reference too",
        source="B60",
        channel="claims",
        module="*of the reference did not move",
        expect="claim",
        edits=(
            Edit(
                DPO,
                APPLIED,
                f"{APPLIED}"
                "        held = nnx.state(train_state.reference_model, nnx.Param)\n"
                "        nnx.update(train_state.reference_model, "
                "jax.tree.map(lambda p, g: p - 1e-3 * g, held, grads))\n",
            ),
        ),
        scenarios=(SMOOTHED,),
    ),
    Fault(
        id="dpo_reference_not_restored",
        title="a resumed run holds its policy against whatever its fresh state began with",
        source="MT:d825b6830",
        channel="claims",
        module="*of the reference is step 0's",
        expect="claim",
        edits=(
            Edit(
                TRAINER,
                "self._leaves = jax.tree.leaves(nnx.merge_state(state, nnx.State({REFERENCE: fresh})))",
                "self._leaves = jax.tree.leaves(nnx.merge_state(nnx.State({REFERENCE: fresh}), state))",
            ),
        ),
        scenarios=(("dpo_resume", "llama2"),),
    ),
    Fault(
        id="dpo_reference_from_resumed_policy",
        title="a resumed policy becomes its own reference",
        source="MT:d825b6830",
        channel="claims",
        module="*of the reference is step 0's",
        expect="claim",
        edits=(Edit(TRAINER, "REFERENCE: super().tree()[REFERENCE]", 'REFERENCE: tree["model"]'),),
        scenarios=(("dpo_resume", "llama2"),),
    ),
)

LATENT, MICROBATCHES = ("dpo_experts", "latent-scan1"), ("dpo_experts", "deepseek-accumulated-scan0")
TOLD = "value, terms = with_told(value, terms, aux, shares)"

EXPERTS = (
    Fault(
        id="dpo_reference_balanced",
        title="the reference's load-balance loss and its experts' loads are added to the policy's",
        source="MT:d825b6830",
        channel="loss",
        module="loss",
        edits=(
            Edit(
                DPO,
                TOLD,
                "judged = jax.lax.stop_gradient(told_logps(reference_model, batch, preference)[1])\n"
                f"        {TOLD.replace('aux', 'jax.tree.map(jnp.add, aux, judged)')}",
            ),
        ),
        scenarios=(LATENT,),
    ),
    Fault(
        id="dpo_balance_shrinks",
        title="under accumulation the load-balance loss counts once a microbatch and is divided by all pairs",
        source="C2",
        channel="loss",
        module="decoder/*",
        edits=(Edit(DPO, TOLD, TOLD.replace("shares", "dict.fromkeys(shares, 1.0)")),),
        scenarios=(MICROBATCHES,),
    ),
    Fault(
        id="dpo_biases_stand_still",
        title="routing biases are moved in training on text alone, not in training on pairs",
        source="B15",
        channel="loss",
        module="optimizer",
        edits=(Edit(DPO, "        settle(train_state.model, terms.aux)\n", ""),),
        scenarios=(LATENT,),
    ),
    Fault(
        id="both_pairs_weigh_by_microbatch",
        title="a microbatch's loss is its mean already and is divided by all pairs again, on both sides alike",
        source="C5",
        channel="loss",
        module="*",
        edits=(
            Edit(
                "impl/training/preference.py",
                "        return terms.loss_sum, terms\n",
                "        return terms.loss_sum / jnp.maximum(terms.pairs, 1.0), terms\n",
            ),
        ),
        scenarios=tuple(
            ("dpo_accumulated_equals_whole", f"mixtral,{side}:dpo(retrained={{'gradient_accumulation_steps': 2}})")
            for side in ("linen", "nnx")
        ),
    ),
)

FAULTS: tuple[Fault, ...] = (*LOSS, *REFERENCE, *EXPERTS)
