"""Mutants of the package: one security check taken out of each. A test must notice."""
