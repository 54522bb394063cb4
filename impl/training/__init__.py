"""What both sides share of training: settings, optimizers, the objective, norms. Framework-free; jax and optax only."""
