"""IKEv2 (RFC 7296): the machines that agree on keys for ESP, without I/O. `ike.Ike` is all of one host."""
