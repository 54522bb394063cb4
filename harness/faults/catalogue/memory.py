"""Faults that change no bit of a result: what the compiled step needs is more."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

MODEL, TRAIN, TRAINER = "impl/nnx/transformer.py", "impl/nnx/train.py", "impl/nnx/trainer.py"

FAULTS = (
    Fault(
        id="scan_hands_parameters_back",
        title="the scan returns the parameters that it read, and the step goes on with the copies",
        source="B42",
        channel="resources",
        module="*",
        edits=(
            Edit(MODEL, "return x, nnx.state(block, nnx.Not(DIFFERENTIATED))", "return x, nnx.state(block)"),
            Edit(TRAIN, "nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate))", "nnx.Not(nnx.Intermediate)"),
        ),
        scenarios=(("memory", "remat-scan0"),),
    ),
    Fault(
        id="state_not_donated",
        title="the state is no longer donated to the step: old and new live side by side",
        source="FM78",
        channel="resources",
        module="*",
        edits=(Edit(TRAINER, "jax.jit(step, donate_argnums=0)", "jax.jit(step)"),),
        scenarios=(("memory", "llama2-scan1"),),
    ),
    Fault(
        id="remat_lost_in_scan",
        title="scanned layers are no longer rematerialised",
        source="FM78",
        channel="resources",
        module="*",
        edits=(
            Edit(
                MODEL,
                'return jax.checkpoint(body, policy=remat.policy(name), prevent_cse=group.form != "scanned")',
                "return body",
            ),
        ),
        scenarios=(("memory", "remat-scan0"),),
    ),
)
