"""Generators of committed test data and package data."""
