"""Mechanisms without domain words: YAML text, retries, stop tokens, bounded parallel maps, logs, files."""
