"""Small pairs for tests: twins that agree, and `broken` twins of which each must be caught."""
