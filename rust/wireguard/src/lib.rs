//! WireGuard state that packets drive: pure machines, time as an argument.
