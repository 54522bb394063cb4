"""Two checkpoints held against each other, leaf by leaf, by their encoded bytes first."""
