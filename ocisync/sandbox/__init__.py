"""Real servers in miniature."""
