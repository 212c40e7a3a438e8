"""Overlays and charts of a tree become plain manifests, made by the real kustomize and helm in a private place."""
