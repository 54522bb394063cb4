"""What lies on disk: the store of arrays and its index, Orbax's files beside it, and how folders get their names."""
