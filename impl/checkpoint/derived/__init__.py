"""Checkpoints made of others by arithmetic: moments of weights, weights alone, GPT-3 from Paxml."""
