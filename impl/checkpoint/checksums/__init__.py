"""The manifest of digests: made, checked, and carried over a conversion."""
