//! Packet headers, checksums and offloads: pure functions over bytes.
//!
//! What is here happens to every packet that a tunnel carries, in the order it happens:
//!
//! | step | module |
//! | --- | --- |
//! | TUN hands over a packet and says what is unfinished about it | [`virtio`] |
//! | a super-packet becomes finished packets of the path's size | [`split`] |
//! | where does it go, how long is it really, how far is it padded | [`ip`] |
//! | the ECN field crosses to the outer header and back | [`ecn`] |
//! | there is nobody to send it to | [`icmp`] |
//! | decrypted packets of one flow become one super-packet again | [`coalesce`] |
//!
//! Rules. No I/O, no clock, no keys, no state but that of one batch ([`coalesce::Coalescer`]). Every byte may come from an
//! enemy: a length is compared before it is used, indices are bounded by the slice they index, nothing panics, and
//! the fuzz targets in `fuzz/` hold that. No `unsafe`: the checksum loops are written so that the compiler vectorises them.
//! Allocation happens while buffers warm up, never per packet.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod coalesce;
pub mod ecn;
pub mod icmp;
pub mod ip;
pub mod split;
pub mod virtio;
