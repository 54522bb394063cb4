"""Serving: the key/value cache, slots and the engine. What both sides share is framework-free and written once."""
