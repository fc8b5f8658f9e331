"""The commands: thin, quick to start, one file for each group of them; `main` has the table."""
