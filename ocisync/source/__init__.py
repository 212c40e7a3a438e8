"""Where files come from: a Git commit, a plain directory, standard input. All become a `SourceTree`."""
