//! One direction of a link: what happens to each frame, and when it comes out. Pure; time is an argument.
//!
//! Four numbers are drawn for every frame, whatever the settings, so that a frame's fate depends only on the seed and on how many
//! frames came before it: turning the delay on does not change which frames are lost. Delay varies by the jitter but keeps
//! the order; only frames chosen for reordering are overtaken, by being held 10 ms longer than their fellows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::frame::{classify, Kind};

/// Frames in flight in one direction: 100 ms at a gigabit of full frames. More are dropped, as a router's queue would.
pub const MAX_FRAMES: usize = 8192;
/// The same in bytes, for jumbo frames.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How much longer a frame is held so that later ones overtake it.
pub const HOLD_NS: u64 = 10_000_000;

const NS_PER_MS: f64 = 1e6;

/// What a link does to frames. Shares are 0..=1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    pub loss: f64,
    pub delay_ms: f64,
    pub jitter_ms: f64,
    pub reorder: f64,
    pub duplicate: f64,
    pub blocked_protocols: Vec<u8>,
    pub blocked_udp_ports: Vec<u16>,
    /// ICMP "fragmentation needed" and ICMPv6 "packet too big" vanish, other ICMP passes.
    pub blocked_too_big: bool,
    /// IP packets above it vanish without a word; 0: no limit.
    pub mtu: usize,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It comes out at its time; *reordered* if later ones may overtake it, *copies* of 2 if it was duplicated.
    Carried {
        reordered: bool,
        copies: u8,
    },
    Lost,
    Blocked,
    Oversize,
    /// Too much is in flight.
    Overflow,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    due_ns: u64,
    sequence: u64,
    frame: Vec<u8>,
}

/// One direction.
pub struct Path {
    faults: Faults,
    random: Random,
    queue: BinaryHeap<Reverse<Pending>>,
    queued_bytes: usize,
    sequence: u64,
    last_due_ns: u64,
}

impl Path {
    /// A path without faults. *stream* tells the two directions of one seed apart.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            faults: Faults::default(),
            random: Random::new(seed, stream),
            queue: BinaryHeap::new(),
            queued_bytes: 0,
            sequence: 0,
            last_due_ns: 0,
        }
    }

    /// From now on; frames in flight keep their time.
    pub fn configure(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// A frame came in.
    pub fn arrive(&mut self, now_ns: u64, frame: &[u8]) -> Fate {
        let kind = classify(frame);
        if kind == Kind::Neighbours {
            return self.carry(now_ns, frame, 1, false);
        }
        let draws = [
            self.random.share(),
            self.random.share(),
            self.random.share(),
            self.random.share(),
        ];
        if let Kind::Ip {
            protocol,
            udp_ports,
            too_big,
            size_bytes,
        } = kind
        {
            if self.faults.blocked_protocols.contains(&protocol)
                || (too_big && self.faults.blocked_too_big)
            {
                return Fate::Blocked;
            }
            if let Some((source, target)) = udp_ports {
                let blocked = &self.faults.blocked_udp_ports;
                if blocked.contains(&source) || blocked.contains(&target) {
                    return Fate::Blocked;
                }
            }
            if self.faults.mtu != 0 && size_bytes > self.faults.mtu {
                return Fate::Oversize;
            }
        }
        if draws[0] < self.faults.loss {
            return Fate::Lost;
        }
        let reordered = draws[1] < self.faults.reorder;
        let copies = if draws[2] < self.faults.duplicate {
            2
        } else {
            1
        };
        let delay_ms =
            (self.faults.delay_ms + self.faults.jitter_ms * (2.0 * draws[3] - 1.0)).max(0.0);
        // Both terms are finite and bounded by the settings, so the product fits.
        #[allow(clippy::cast_sign_loss)]
        let mut due_ns = now_ns + (delay_ms * NS_PER_MS) as u64;
        if reordered {
            due_ns += HOLD_NS;
        } else {
            due_ns = due_ns.max(self.last_due_ns);
            self.last_due_ns = due_ns;
        }
        self.carry(due_ns, frame, copies, reordered)
    }

    /// When the next frame comes out.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(pending)| pending.due_ns)
    }

    /// The next frame whose time has come.
    pub fn pop(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let Reverse(pending) = self.queue.pop()?;
        self.queued_bytes -= pending.frame.len();
        Some(pending.frame)
    }

    /// Frames in flight.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn carry(&mut self, due_ns: u64, frame: &[u8], copies: u8, reordered: bool) -> Fate {
        for copy in 0..copies {
            if self.queue.len() >= MAX_FRAMES || self.queued_bytes + frame.len() > MAX_BYTES {
                // A second copy that does not fit is no loss.
                return if copy == 0 {
                    Fate::Overflow
                } else {
                    Fate::Carried {
                        reordered,
                        copies: 1,
                    }
                };
            }
            self.queue.push(Reverse(Pending {
                due_ns,
                sequence: self.sequence,
                frame: frame.to_vec(),
            }));
            self.sequence += 1;
            self.queued_bytes += frame.len();
        }
        Fate::Carried { reordered, copies }
    }
}

/// A small deterministic generator (`SplitMix64`: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Not for
/// secrets.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from [0, 1).
    fn share(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let numerator = (self.next() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: u64 = 1_000_000;

    /// A UDP datagram over IPv4 from port 9 to *port*, numbered by its last two bytes.
    fn datagram(number: u16, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([
            8, 0, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 9,
        ]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 10, 0, 0]);
        frame.extend(number.to_be_bytes());
        frame
    }

    fn number(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[frame.len() - 2], frame[frame.len() - 1]])
    }

    fn with(faults: Faults) -> Path {
        let mut path = Path::new(7, 0);
        path.configure(faults);
        path
    }

    fn drain(path: &mut Path, now_ns: u64) -> Vec<u16> {
        std::iter::from_fn(|| path.pop(now_ns))
            .map(|frame| number(&frame))
            .collect()
    }

    #[test]
    fn without_faults_everything_comes_out_at_once_and_in_order() {
        let mut path = Path::new(1, 0);
        for count in 0..100 {
            assert_eq!(
                path.arrive(5, &datagram(count, 1)),
                Fate::Carried {
                    reordered: false,
                    copies: 1
                }
            );
        }
        assert_eq!(drain(&mut path, 5), (0..100).collect::<Vec<_>>());
        assert_eq!(path.in_flight(), 0);
    }

    #[test]
    fn delay_is_exact_and_jitter_keeps_the_order() {
        let mut path = with(Faults {
            delay_ms: 20.0,
            ..Faults::default()
        });
        path.arrive(0, &datagram(0, 1));
        assert_eq!(path.next_due_ns(), Some(20 * MS));
        assert!(path.pop(20 * MS - 1).is_none());
        assert_eq!(number(&path.pop(20 * MS).unwrap()), 0);

        let mut path = with(Faults {
            delay_ms: 20.0,
            jitter_ms: 15.0,
            ..Faults::default()
        });
        let mut dues = Vec::new();
        for count in 0..500 {
            path.arrive(u64::from(count) * MS / 10, &datagram(count, 1));
            dues.push(path.last_due_ns);
        }
        assert!(dues.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(dues[0] >= 5 * MS && dues[0] <= 35 * MS);
        assert_eq!(drain(&mut path, 1000 * MS), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn loss_is_near_its_share_and_the_same_for_the_same_seed() {
        let lost = |seed, delay_ms| {
            let mut path = Path::new(seed, 0);
            path.configure(Faults {
                loss: 0.1,
                delay_ms,
                ..Faults::default()
            });
            (0..5000)
                .filter(|count| {
                    let fate = path.arrive(0, &datagram(*count, 1));
                    path.pop(u64::MAX);
                    fate == Fate::Lost
                })
                .collect::<Vec<_>>()
        };
        let first = lost(3, 0.0);
        assert!((400..600).contains(&first.len()), "{}", first.len());
        assert_eq!(
            first,
            lost(3, 50.0),
            "delay must not change which frames are lost"
        );
        assert_ne!(first, lost(4, 0.0));
    }

    #[test]
    fn the_two_directions_of_one_seed_differ() {
        let fates = |stream| {
            let mut path = Path::new(3, stream);
            path.configure(Faults {
                loss: 0.5,
                ..Faults::default()
            });
            (0..64)
                .map(|count| path.arrive(0, &datagram(count, 1)) == Fate::Lost)
                .collect::<Vec<_>>()
        };
        assert_ne!(fates(0), fates(1));
    }

    #[test]
    fn reordered_frames_are_overtaken_within_ten_milliseconds() {
        let mut path = with(Faults {
            reorder: 0.2,
            ..Faults::default()
        });
        let mut held = 0;
        for count in 0..200 {
            if let Fate::Carried {
                reordered: true, ..
            } = path.arrive(0, &datagram(count, 1))
            {
                held += 1;
            }
        }
        let at_once = drain(&mut path, 0);
        assert_eq!(at_once.len(), 200 - held);
        assert!((20..60).contains(&held), "{held}");
        assert_eq!(drain(&mut path, HOLD_NS).len(), held);
    }

    #[test]
    fn duplicates_come_right_behind() {
        let mut path = with(Faults {
            duplicate: 1.0,
            ..Faults::default()
        });
        path.arrive(0, &datagram(1, 1));
        path.arrive(0, &datagram(2, 1));
        assert_eq!(drain(&mut path, 0), [1, 1, 2, 2]);
    }

    #[test]
    fn blocks_by_protocol_and_by_either_port_but_never_the_neighbours() {
        let mut path = with(Faults {
            blocked_udp_ports: vec![51820],
            ..Faults::default()
        });
        assert_eq!(path.arrive(0, &datagram(0, 51820)), Fate::Blocked);
        assert_eq!(
            path.arrive(0, &datagram(0, 51821)),
            Fate::Carried {
                reordered: false,
                copies: 1
            }
        );
        path.configure(Faults {
            blocked_udp_ports: vec![9],
            ..Faults::default()
        });
        assert_eq!(path.arrive(0, &datagram(0, 51821)), Fate::Blocked);
        path.configure(Faults {
            blocked_protocols: vec![17],
            loss: 1.0,
            ..Faults::default()
        });
        assert_eq!(path.arrive(0, &datagram(0, 1)), Fate::Blocked);
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(
            path.arrive(0, &arp),
            Fate::Carried {
                reordered: false,
                copies: 1
            }
        );
    }

    #[test]
    fn too_big_may_vanish_while_other_icmp_passes() {
        let icmp = |kind: u8, code: u8| {
            let mut frame = datagram(0, 0);
            frame[23] = 1;
            frame[34..36].copy_from_slice(&[kind, code]);
            frame
        };
        let mut path = with(Faults {
            blocked_too_big: true,
            ..Faults::default()
        });
        assert_eq!(path.arrive(0, &icmp(3, 4)), Fate::Blocked);
        for passes in [icmp(3, 3), icmp(8, 0), datagram(0, 1)] {
            assert!(matches!(path.arrive(0, &passes), Fate::Carried { .. }));
        }
    }

    #[test]
    fn what_is_larger_than_the_mtu_vanishes() {
        let mut path = with(Faults {
            mtu: 30,
            ..Faults::default()
        });
        assert_eq!(
            path.arrive(0, &datagram(0, 1)),
            Fate::Carried {
                reordered: false,
                copies: 1
            }
        );
        let mut long = datagram(0, 1);
        long.push(0);
        assert_eq!(path.arrive(0, &long), Fate::Oversize);
    }

    #[test]
    fn frames_in_flight_are_bounded() {
        let mut path = with(Faults {
            delay_ms: 1000.0,
            duplicate: 1.0,
            ..Faults::default()
        });
        for count in 0..MAX_FRAMES / 2 {
            assert_eq!(
                path.arrive(0, &datagram(count as u16, 1)),
                Fate::Carried {
                    reordered: false,
                    copies: 2
                }
            );
        }
        assert_eq!(path.arrive(0, &datagram(0, 1)), Fate::Overflow);
        assert_eq!(path.in_flight(), MAX_FRAMES);

        let mut path = with(Faults {
            delay_ms: 1000.0,
            ..Faults::default()
        });
        let jumbo = vec![0; 60_000];
        let fits = (0..MAX_FRAMES)
            .take_while(|_| path.arrive(0, &jumbo) != Fate::Overflow)
            .count();
        assert_eq!(fits, MAX_BYTES / 60_000);
    }
}
