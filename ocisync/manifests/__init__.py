"""Manifests: files become Kubernetes objects with places, and are judged before anything is uploaded. Pure."""
