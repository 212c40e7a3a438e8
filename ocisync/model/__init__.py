"""Nouns of the whole project: frozen values, standard library only, no I/O, no clock."""
