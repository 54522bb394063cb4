"""The four trees that MaxText writes, their layers and optimizers, one form for all, and the ways between them."""
