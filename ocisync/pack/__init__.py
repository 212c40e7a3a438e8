"""Between files and artifacts, both ways: deterministic writing, bounded reading. Pure: bytes in, bytes out."""
