"""Shared by tests: real servers as child processes, waiting, and what is missing."""
