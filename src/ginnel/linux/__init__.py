"""
The host: netlink, nftables, DNS, sysctl, hooks, and the records of what was done to it.

Each effect stands behind a small Protocol in `host`, has one real implementation in a file of its own, and a fake in
`fake` that can fail at any step. What is done is noted before it is done (`record`), as data from which it is undone (`undo`).
"""
