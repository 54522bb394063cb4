"""Declarative scenarios, one idea a file, found by discovery and named by file."""
