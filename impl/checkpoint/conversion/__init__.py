"""A checkpoint in another dialect or layout: planned by its index, carried out, held against the plan."""
