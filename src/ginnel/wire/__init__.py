"""Bytes <-> messages: no state, no clock, no keys, no I/O. One file a protocol."""
