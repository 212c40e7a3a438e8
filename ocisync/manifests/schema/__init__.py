"""Schemas: what fields an object of a kind may have, built-in kinds and custom ones. Pure; no network, ever."""
