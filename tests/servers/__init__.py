"""The real servers for tests: how they are built and started by hand."""
