"""Recipes: the only place where the stages meet. Each reads, decides purely, then writes."""
