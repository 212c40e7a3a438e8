"""Fuzzing of everything that reads what a stranger may have written about trust."""
