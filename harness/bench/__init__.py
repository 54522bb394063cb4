"""Ratios measured side by side in one run: step time, dispatch, compiled bytes, and what the harness itself costs."""
