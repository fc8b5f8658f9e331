//! The replay window of one receiving session (RFC 6479).
//!
//! A counter is *fresh* when it was never seen and is not too far behind the highest one seen. What was seen is a ring
//! of 64-bit words, one bit a counter. Moving forward clears whole words and never shifts; the price is one word that
//! can not be relied upon (the highest counter may stand at its very beginning), so that of 8,192 bits 8,128 are the
//! window. Networks with several queues and receive offload reorder by thousands: shorter windows have lost packets
//! to it in other implementations.
//!
//! Only an authenticated counter may be shown to `accept`: a forged one would move the window.

use crate::constants::REJECT_AFTER_MESSAGES;

/// Bits in the ring.
pub const WINDOW_BITS: usize = 8192;
/// How far behind the highest counter a counter may still be accepted.
pub const WINDOW_SIZE: u64 = (WINDOW_BITS - WORD_BITS) as u64;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = WINDOW_BITS / WORD_BITS;

/// What one session has received; 1,032 bytes.
#[derive(Clone, Debug)]
pub struct Window {
    /// The highest accepted counter + 1; 0 = none yet.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// True when `counter` is fresh, which also marks it as seen. Refuses counters from `REJECT_AFTER_MESSAGES` on.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        if counter >= self.next {
            self.advance(counter);
        } else if self.next - 1 - counter > WINDOW_SIZE {
            return false;
        }
        let word = &mut self.seen[word_of(counter)];
        let bit = 1 << (counter % WORD_BITS as u64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Clear the words between the highest counter and `counter`, which becomes the highest.
    fn advance(&mut self, counter: u64) {
        // Without a highest counter the ring is empty already, and word 0 counts as entered.
        let from = self.next.saturating_sub(1) / WORD_BITS as u64;
        let entered = (counter / WORD_BITS as u64 - from).min(WORDS as u64);
        for step in 1..=entered {
            self.seen[((from + step) % WORDS as u64) as usize] = 0;
        }
        self.next = counter + 1;
    }
}

fn word_of(counter: u64) -> usize {
    (counter / WORD_BITS as u64 % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// The oracle: every counter ever accepted.
    #[derive(Default)]
    struct Naive {
        highest: Option<u64>,
        seen: HashSet<u64>,
    }

    impl Naive {
        fn accept(&mut self, counter: u64) -> bool {
            if counter >= REJECT_AFTER_MESSAGES {
                return false;
            }
            if self
                .highest
                .is_some_and(|highest| highest > counter && highest - counter > WINDOW_SIZE)
            {
                return false;
            }
            self.highest = Some(self.highest.map_or(counter, |highest| highest.max(counter)));
            self.seen.insert(counter)
        }
    }

    /// Feed (counter, expected) pairs to one fresh window.
    fn expect(steps: &[(u64, bool)]) {
        let mut window = Window::new();
        for (index, &(counter, fresh)) in steps.iter().enumerate() {
            assert_eq!(
                window.accept(counter),
                fresh,
                "step {index}: counter {counter}"
            );
        }
    }

    #[test]
    fn each_counter_once_in_any_order() {
        expect(&[
            (0, true),
            (0, false),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (8, false),
        ]);
    }

    #[test]
    fn the_edge_of_the_window_is_exact() {
        let w = WINDOW_SIZE;
        expect(&[(w, true), (0, true), (0, false), (w - 1, true)]);
        expect(&[(w + 1, true), (0, false), (1, true), (1, false)]);
        expect(&[
            (w + 1, true),
            (w + 2, true),
            (1, false),
            (2, true),
            (w * 2, true),
            (w - 1, false),
            (w, true),
        ]);
        expect(&[
            (0, true),
            (w * 3, true),
            (0, false),
            (w * 2, true),
            (w * 2 - 1, false),
            (w * 2 + 1, true),
        ]);
    }

    #[test]
    fn a_jump_over_the_whole_ring_forgets_nothing_that_matters() {
        let bits = WINDOW_BITS as u64;
        for jump in [
            63,
            64,
            65,
            bits - 65,
            bits - 64,
            bits - 1,
            bits,
            bits + 1,
            bits * 5 + 17,
        ] {
            expect(&[
                (5, true),
                (5 + jump, true),
                (5 + jump, false),
                (4 + jump, true),
                (4 + jump, false),
            ]);
        }
    }

    #[test]
    fn r3_limits_of_the_counter() {
        let last = REJECT_AFTER_MESSAGES - 1;
        assert_eq!(u128::from(last), (1_u128 << 64) - (1 << 13) - 2);
        expect(&[
            (last, true),
            (last, false),
            (REJECT_AFTER_MESSAGES, false),
            (u64::MAX, false),
            (last - WINDOW_SIZE, true),
        ]);
        expect(&[
            ((1 << 60) - 1, true),
            (1 << 60, true),
            ((1 << 60) - 1, false),
            (1 << 60, false),
        ]);
        // Past the width of a 32-bit machine's word.
        expect(&[
            (u64::from(u32::MAX), true),
            (1 << 32, true),
            (0, false),
            (u64::from(u32::MAX), false),
        ]);
        // A refused counter leaves no trace.
        expect(&[(0, true), (u64::MAX, false), (1, true)]);
    }

    #[test]
    fn r16_reordering_by_8000_is_accepted_and_by_8193_refused() {
        for start in [0, 1, 63, 64, 1 << 32, 1 << 60] {
            expect(&[(start, true), (start + 8001, true), (start + 1, true)]);
            expect(&[(start + 8193, true), (start, false)]);
        }
        // 8,000 late packets, every one of them wanted, each once.
        let mut window = Window::new();
        assert!(window.accept(8000));
        assert!((0..8000).all(|counter| window.accept(counter)));
        assert!((0..=8000).all(|counter| !window.accept(counter)));
    }

    #[test]
    fn a_million_replays_deliver_nothing() {
        let mut window = Window::new();
        for counter in 0..20_000 {
            assert!(window.accept(counter));
        }
        let mut accepted = 0;
        for replay in 0..1_000_000_u64 {
            accepted +=
                u32::from(window.accept(replay.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20_000));
        }
        assert_eq!(accepted, 0);
    }

    proptest! {
        #[test]
        fn equals_the_oracle(
            base in prop_oneof![Just(0), Just(1 << 32), Just((1 << 60) - 5000), Just(REJECT_AFTER_MESSAGES - 20_000)],
            steps in prop::collection::vec(prop_oneof![0_u64..200, 0_u64..10_000, 0_u64..40_000], 1..600),
        ) {
            let mut window = Window::new();
            let mut naive = Naive::default();
            for step in steps {
                let counter = base.saturating_add(step);
                prop_assert_eq!(window.accept(counter), naive.accept(counter), "counter {}", counter);
            }
        }
    }
}
