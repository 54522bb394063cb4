"""Leaves of a checkpoint and trees of them, and where the bytes of a leaf that is not read come from."""
