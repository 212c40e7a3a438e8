"""What other tools make of our artifacts, and we of theirs: rule by rule, and with the tools themselves."""
