"""Faults of the partly migrated sides: what goes wrong at the bridge between the frameworks."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="bridge_returns_hidden_state",
        title="the bridged model hands out the last hidden state where logits are due",
        source="FM49",
        channel="loss",
        module="model",
        edits=(
            Edit(
                "impl/bridged/nnx_linen.py",
                "return finish(self.token_embedder.attend(x) if self.config.logits_via_embedding else x, self.config)",
                "return finish(x, self.config)",
            ),
        ),
        scenarios=(("train_step_bridged", "gemma2-scan0,linen:nnx_linen"),),
    ),
    Fault(
        id="bridge_is_pure_linen",
        title="a partly migrated side is Linen throughout",
        source="FM68",
        channel="attestation",
        module="side linen_nnx declares linen and nnx, but train traced linen*",
        expect="refused",
        edits=(Edit("impl/sides.py", '"linen_nnx": "impl.bridged.linen_nnx"', '"linen_nnx": "impl.linen"'),),
        scenarios=(("train_step_bridged", "llama2-scan1,linen:linen_nnx"),),
    ),
)
