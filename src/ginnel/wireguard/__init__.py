"""WireGuard's handshake, cookies and timers as machines without I/O: datagrams, time and commands in; effects out."""
