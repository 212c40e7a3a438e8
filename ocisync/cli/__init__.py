"""The command line: each command parses its flags, calls one recipe, renders the answer. Nothing else lives here."""
