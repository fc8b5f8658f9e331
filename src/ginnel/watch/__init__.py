"""
What runs, as values: snapshots (`snapshot`), their judgement (`health`) and the names of log events (`log`).

Pure: nothing here reads a clock, a socket or a file. The runtime fills the snapshots and serves them.
"""
