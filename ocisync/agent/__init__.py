"""The agent: threads, triggers and status around `flows.reconcile`, which alone decides about the cluster."""
