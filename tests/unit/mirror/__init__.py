"""Registry access without a registry."""
