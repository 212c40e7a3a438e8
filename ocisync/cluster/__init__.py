"""The Kubernetes side: apply, inventory, prune, watch, drift and health. `client` alone talks to the API server."""
