//! Packet headers, checksums and offloads: pure functions over bytes.
