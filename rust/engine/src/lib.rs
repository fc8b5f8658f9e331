//! The engine: what happens once per packet.
