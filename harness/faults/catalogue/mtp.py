"""Faults in multi-token prediction: where its loss gets lost or grows, what crosses segments, what is there twice."""

from harness.faults.record import Edit, Fault

__all__ = ["FAULTS"]

BLOCK, SOWN, MODEL = "impl/nnx/mtp.py", "impl/nnx/sown.py", "impl/nnx/transformer.py"
TRAIN = "impl/nnx/train.py"
DENSE = (("mtp", "accumulated-scan1"),)
PLACED = "places = places_with_target(batch.target_segments, inside, k)"
LOSSES = "self.sow(MtpLosses, LOSSES, jnp.stack(losses))"

FAULTS: tuple[Fault, ...] = (
    Fault(
        id="further_loss_popped_first",
        title="the generic Intermediate takes what its kinds were sown as, and nothing found counts as a loss of 0",
        source="B17",
        channel="claims",
        module="*mtp_loss* is not zero",
        expect="claim",
        edits=(
            Edit(SOWN, "MtpLosses, MtpAcceptance, nnx.Intermediate\n", "nnx.Intermediate, MtpLosses, MtpAcceptance\n"),
            Edit(SOWN, "losses, guesses, layers = map", "layers, losses, guesses = map"),
            Edit(SOWN, "import predicted\n", "import predicted, unpredicted\n"),
            Edit(
                SOWN,
                "predicted(further, logits, batch, config)",
                "(predicted(further, logits, batch, config) if further else unpredicted(config))",
            ),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="further_loss_leaks",
        title="what the block keeps for the loss is a plain Variable of its own, and is returned with the state",
        source="B16",
        channel="outputs",
        module="*structure*",
        expect="error",
        edits=(
            Edit(BLOCK, "class MtpLosses(nnx.Intermediate):", "class MtpLosses(nnx.Variable):"),
            Edit(BLOCK, LOSSES, "self.losses = MtpLosses(jnp.stack(losses))"),
            Edit(SOWN, "predicted(further, ", 'predicted({**further, ("losses",): model.mtp_block.losses[...]}, '),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="further_layer_on_the_block",
        title="the block of a layer that predicts further hangs on what holds the layers, not on its layer",
        source="B22",
        channel="outputs",
        module="*mtp_block.mtp_1_transformer_layer*",
        expect="error",
        edits=(
            Edit(
                "impl/linen/mtp.py",
                "self.deterministic, self.kind, name=name)",
                "self.deterministic, self.kind, name=name, parent=self.parent)",
            ),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="further_table_copied",
        title="the block embeds further tokens by a table of its own",
        source="FM30",
        channel="outputs",
        module="*mtp_block*",
        expect="error",
        edits=(
            Edit(
                MODEL,
                "self.mtp_block = MtpBlock(config, rngs=rngs)",
                "self.mtp_block = MtpBlock(config, rngs=rngs)\n"
                "            self.mtp_block.token_embedder = embed(config, config.vocab_size, rngs)",
            ),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="further_loss_crosses_segments",
        title="the last tokens of a segment are taught what the next segment begins with",
        source="C7",
        channel="loss",
        module="mtp_block*",
        edits=(
            Edit(BLOCK, PLACED, PLACED.replace("inside", "jnp.minimum(inside, 1)")),
            Edit(BLOCK, "ahead(batch.targets, inside, k)", "ahead(batch.targets, jnp.minimum(inside, 1), k)"),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="further_tokens_stand_still",
        title="the second layer is given the token that the first one had",
        source="C7",
        channel="loss",
        module="mtp_block",
        edits=(Edit(BLOCK, "enter(ahead(batch.tokens, inside, k),", "enter(ahead(batch.tokens, inside, 1),"),),
        scenarios=DENSE,
    ),
    Fault(
        id="segment_ids_weigh",
        title="the second segment of a row weighs twice: the mask of further targets is made of ids, not of 0 and 1",
        source="C7",
        channel="loss",
        module="mtp_block*",
        edits=(Edit(BLOCK, PLACED, "places = 1.0 * ahead(batch.target_segments, inside, k)"),),
        scenarios=DENSE,
    ),
    Fault(
        id="further_loss_scaled_twice",
        title="the scale of the further loss is in what is sown already, and multiplies again",
        source="C7",
        channel="loss",
        module="mtp_block*",
        edits=(Edit(BLOCK, LOSSES, LOSSES.replace("jnp", "config.mtp_loss_scaling_factor * jnp")),),
        scenarios=(("mtp", "llama2"),),
    ),
    Fault(
        id="further_loss_shrinks",
        title="under accumulation the further loss counts once, is divided by all tokens, and guesses learn nothing",
        source="C2",
        channel="claims",
        module="rates vary",
        expect="claim",
        edits=(
            Edit(
                TRAIN,
                "with_auxiliary(value, terms, aux, shares)",
                "with_auxiliary(value, terms, aux, {**shares, PREDICTION_SUM: 1.0 / (aux[PREDICTION_WEIGHTS] + 1e-8)})",
            ),
            Edit(
                TRAIN,
                "    Batch,\n    Shares,\n",
                "    PREDICTION_SUM,\n    PREDICTION_WEIGHTS,\n    Batch,\n    Shares,\n",
            ),
        ),
        scenarios=DENSE,
    ),
    Fault(
        id="first_bias_found_is_moved",
        title="the routing bias to move is the first found of its name, so that of a layer that predicts further, "
        "which is not stacked (in NNX's tree, which is searched from its end: there MaxText's began)",
        source="B18",
        channel="outputs",
        module="*Too many indices*",
        expect="error",
        edits=(
            Edit(
                "impl/training/auxiliary.py",
                "found = [path for path in leaves if path[-len(ending) :] == ending and _holds(path, root)]",
                'lost = next(iter(leaves))[0] != "params"\n'
                "        found = [path for path in reversed(leaves) if path[-len(ending) :] == ending]\n"
                "        found = [path for path in found if lost or _holds(path, root)]",
            ),
        ),
        scenarios=(("mtp", "deepseek-scan1"),),
    ),
    Fault(
        id="further_tiles_weigh_padding",
        title="tiles of a layer that predicts further count every position, whether there is a target or not",
        source="B21",
        channel="loss",
        module="*",
        edits=(
            Edit(
                "impl/nnx/tiling.py",
                "further, tiled, hidden, batch, config)",
                "further, tiled, hidden, counted, config)",
            ),
            Edit(
                "impl/nnx/tiling.py",
                "            aux |= predicted_in_tiles(",
                "            counted = batch._replace(target_segments=batch.target_segments | 1)\n"
                "            aux |= predicted_in_tiles(",
            ),
        ),
        scenarios=(("mtp", "tiled-llama2"),),
    ),
    Fault(
        id="further_stream_not_held",
        title="the stream of a layer that predicts further is not held to its logical names",
        source="B53",
        channel="shardings",
        module="activations*",
        edits=(
            Edit(
                BLOCK,
                "x = constrained(layer(x, embedded, batch.positions, inside), HIDDEN)",
                "x = layer(x, embedded, batch.positions, inside)",
            ),
        ),
        scenarios=(("shardings", "mtp"),),
    ),
)
