"""Configurations of one host, as values: text in, checked description or every mistake out; no I/O here."""
