"""Mirror: whole artifacts, with everything that refers to them, from one place to another."""
