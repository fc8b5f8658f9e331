//! What one core does here, per second and per packet: `cargo run --release -p ginnel-packet --example packet_speed`.
//!
//! The best of 41 rounds of 5 ms each: what the code costs, whatever else the machine is doing. Sources are larger than a first-level cache, as a 64 KiB read from TUN is.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // a program for the terminal; its numbers are small

use std::hint::black_box;
use std::time::{Duration, Instant};

use ginnel_packet::checksum;
use ginnel_packet::coalesce::{Coalescer, Limits};
use ginnel_packet::split::{split, SegmentSink};
use ginnel_packet::virtio::{VirtioNetHdr, GSO_NONE, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM};

/// Segments at a fixed stride, with room before and behind as encryption wants.
struct Slab {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Slab {
    const STRIDE: usize = 2048;

    fn new(segments: usize) -> Self {
        Self {
            bytes: vec![0; segments * Self::STRIDE],
            places: Vec::with_capacity(segments),
        }
    }
}

impl SegmentSink for Slab {
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.places.len() * Self::STRIDE + 16;
        self.places.push((start, len));
        self.bytes.get_mut(start..start + len)
    }
}

fn best_ns(mut f: impl FnMut()) -> f64 {
    let round = |f: &mut dyn FnMut()| {
        let (start, mut n) = (Instant::now(), 0u32);
        while start.elapsed() < Duration::from_millis(5) {
            for _ in 0..16 {
                f();
            }
            n += 16;
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(n)
    };
    (0..41).map(|_| round(&mut f)).fold(f64::MAX, f64::min)
}

fn super_packet(protocol: u8, payload: usize) -> Vec<u8> {
    let transport: usize = if protocol == 6 { 32 } else { 8 };
    let total = 20 + transport + payload;
    let mut p = vec![0x45, 0];
    p.extend((total as u16).to_be_bytes());
    p.extend([
        0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0x14, 0x51,
    ]);
    p.resize(20 + transport, 0);
    if protocol == 6 {
        p[32] = 0x80;
        p[33] = 0x10;
    }
    p.extend((0..payload).map(|i| (i * 31 + (i >> 8)) as u8));
    p
}

fn main() {
    for len in [64usize, 1420, 16_384] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut to = vec![0u8; len];
        let ns = best_ns(|| {
            black_box(checksum::sum(black_box(&data)));
        });
        let fused = best_ns(|| {
            black_box(checksum::copy(black_box(&mut to), black_box(&data)));
        });
        println!(
            "checksum {len:>6} B: {ns:7.1} ns {:6.1} GB/s    copy+checksum: {fused:7.1} ns {:6.1} GB/s",
            len as f64 / ns,
            len as f64 / fused
        );
    }
    for (name, protocol, gso_type, headers) in
        [("tcp", 6, GSO_TCPV4, 52), ("udp", 17, GSO_UDP_L4, 28)]
    {
        let packet = super_packet(protocol, 45 * 1380);
        let hdr = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: headers,
            gso_size: 1380,
            csum_start: 20,
            csum_offset: if protocol == 6 { 16 } else { 6 },
        };
        let mut slab = Slab::new(45);
        let ns = best_ns(|| {
            slab.places.clear();
            assert_eq!(
                split(black_box(&hdr), black_box(&packet), &mut slab),
                Ok(45)
            );
        });
        println!(
            "split {name} {} B into 45: {ns:.0} ns, {:.1} ns a segment, {:.2} GB/s",
            packet.len(),
            ns / 45.0,
            packet.len() as f64 / ns
        );

        // The slab now holds 45 finished packets; flush rewrites the first one's header, so it is put back each round.
        let first = slab.bytes[16..16 + 128].to_vec();
        for verify in [true, false] {
            let mut coalescer = Coalescer::new(Limits {
                tcp: true,
                udp: true,
            });
            coalescer.set_verify(verify);
            let mut emitted = 0;
            let places = slab.places.clone();
            let ns = best_ns(|| {
                slab.bytes[16..16 + 128].copy_from_slice(&first);
                for (start, len) in &places {
                    coalescer.push(black_box(&slab.bytes), *start, *len);
                }
                coalescer.flush(&mut slab.bytes, &mut |h, _, r| {
                    black_box((h, r));
                    emitted = r.len();
                });
            });
            assert_eq!(emitted, 45);
            println!(
                "coalesce {name} 45, verify {verify}: {:.1} ns a packet",
                ns / 45.0
            );
        }
    }
    let small = super_packet(17, 36);
    let hdr = VirtioNetHdr {
        gso_type: GSO_NONE,
        ..VirtioNetHdr::default()
    };
    let mut slab = Slab::new(1);
    let ns = best_ns(|| {
        slab.places.clear();
        assert_eq!(split(black_box(&hdr), black_box(&small), &mut slab), Ok(1));
    });
    println!("plain 64 B: {ns:.1} ns");

    // 128 lone packets of 128 flows: what coalescing costs where it gains nothing.
    let mut slab = vec![0u8; 128 * Slab::STRIDE];
    for i in 0..128 {
        let mut p = super_packet(17, 36);
        p[20..22].copy_from_slice(&(1000 + i as u16).to_be_bytes());
        p[24..26].copy_from_slice(&44u16.to_be_bytes());
        p[26] = 1;
        slab[i * Slab::STRIDE..][..64].copy_from_slice(&p);
    }
    let mut coalescer = Coalescer::new(Limits {
        tcp: true,
        udp: true,
    });
    let ns = best_ns(|| {
        for i in 0..128 {
            coalescer.push(black_box(&slab), i * Slab::STRIDE, 64);
        }
        coalescer.flush(&mut slab, &mut |h, _, r| {
            black_box((h, r));
        });
    });
    println!(
        "coalesce 128 flows of one packet each: {:.1} ns a packet",
        ns / 128.0
    );
}
