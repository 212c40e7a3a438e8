"""Registries: one `Store` per repository, every byte checked before anyone sees it."""
