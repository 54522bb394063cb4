"""Programs as graphs of values: read from StableHLO, made canonical, proved equal or told where they differ."""
