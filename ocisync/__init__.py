"""GitOps over OCI registries: signed, immutable artifacts from Git, kept true by a small agent."""

__version__ = "0.1.0"
