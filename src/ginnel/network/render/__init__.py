"""Node descriptions as the files of other programs; one module a format, each a pure function."""
