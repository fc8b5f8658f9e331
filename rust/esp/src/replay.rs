//! The replay window of one inbound SA (RFC 4303 3.4.3 and appendix A), and where in 64 bits a 32-bit sequence number stands.
//!
//! A window of W numbers ends at T, the greatest number accepted. A number is *fresh* when it is above T, or among T-W+1 … T and
//! not seen yet; below it is *too old*. What was seen is a ring of 64-bit words, one bit a number, with at least one word more
//! than the window has: moving forward clears whole words and never shifts, and still the window's border is exact.
//!
//! With extended sequence numbers (ESN) a packet shows the low 32 bits only. Which high half makes the number lie in the window or
//! nearest above it is appendix A2.2:
//!
//! ```text
//! Tl >= W-1   the window lies in one span of 2^32:   low >= Tl-W+1 -> Th,     else Th+1
//! Tl <  W-1   it reaches into the span before:       low >= Tl-W+1 -> Th-1,   else Th       (Tl-W+1 modulo 2^32)
//! ```
//!
//! The high half takes part in authentication, so a wrong guess is a packet that proves false, not a number accepted.
//! Only the number of an authenticated packet may be shown to `accept`: a forged one would move the window.

/// The largest window: 16 KiB an SA.
pub const MAX_WINDOW: u32 = 65_536;
/// What an SA has that asks for nothing else: networks with several queues reorder by hundreds (RFC 4303 asks for 32 at least).
pub const DEFAULT_WINDOW: u32 = 1024;

const WORD_BITS: u64 = u64::BITS as u64;
const SPAN: u64 = 1 << 32;

/// What a sequence number is to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fresh,
    /// Seen already, or number 0, which is never sent.
    Replayed,
    /// Before the window.
    TooOld,
}

/// What one inbound SA has received.
#[derive(Clone, Debug)]
pub struct Window {
    /// W; 0 = no protection.
    size: u64,
    esn: bool,
    /// T; 0 = none yet, since 0 is never sent.
    highest: u64,
    /// Empty when there is no protection. A power of two.
    seen: Vec<u64>,
}

impl Window {
    /// A window that has seen nothing, or (for SAs that live on) everything up to `received`.
    ///
    /// `None`: larger than [`MAX_WINDOW`], or 0 with ESN, whose high half only the window knows (RFC 4303 3.3.3), or `received` is
    /// no sequence number.
    pub fn new(size: u32, esn: bool, received: u64) -> Option<Self> {
        if size > MAX_WINDOW || size == 0 && esn || received >= SPAN && !esn {
            return None;
        }
        let size = u64::from(size);
        let words = match size {
            0 => 0,
            _ => (size.div_ceil(WORD_BITS) + 1).next_power_of_two(),
        };
        // What `received` stands for was all seen, so every bit is set; those above it are cleared on the way.
        let full = if received == 0 { 0 } else { u64::MAX };
        let mut window = Self {
            size,
            esn,
            highest: received,
            seen: vec![full; words as usize],
        };
        if let Some(word) = window.word_of(received) {
            // 0 counts as seen too.
            window.seen[word] = u64::MAX >> (WORD_BITS - 1 - received % WORD_BITS);
        }
        Some(window)
    }

    /// T: the greatest number accepted, 0 if none.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// The whole number of a packet that shows these low 32 bits. `None`: it lies before the first number there is.
    #[inline]
    pub fn infer(&self, low: u32) -> Option<u64> {
        let low = u64::from(low);
        if !self.esn {
            return Some(low);
        }
        let (high, tail) = (self.highest / SPAN, self.highest % SPAN);
        let bottom = (tail + SPAN + 1 - self.size) % SPAN;
        let high = match (tail + 1 >= self.size, low >= bottom) {
            (true, true) | (false, false) => Some(high),
            (true, false) => high.checked_add(1).filter(|high| *high < SPAN),
            (false, true) => high.checked_sub(1),
        };
        high.map(|high| high * SPAN + low)
    }

    /// What `number` is to the window; nothing changes.
    #[inline]
    pub fn check(&self, number: u64) -> Verdict {
        let Some(word) = self.word_of(number) else {
            return Verdict::Fresh;
        };
        if number > self.highest {
            return Verdict::Fresh;
        }
        if self.highest - number >= self.size {
            return if number == 0 {
                Verdict::Replayed
            } else {
                Verdict::TooOld
            };
        }
        match (self.seen[word] >> (number % WORD_BITS)) & 1 {
            0 => Verdict::Fresh,
            _ => Verdict::Replayed,
        }
    }

    /// As `check`, and a fresh number is marked as seen. For numbers of authenticated packets alone.
    #[inline]
    pub fn accept(&mut self, number: u64) -> Verdict {
        let verdict = self.check(number);
        if verdict == Verdict::Fresh {
            if number > self.highest {
                self.advance(number);
            }
            if let Some(word) = self.word_of(number) {
                self.seen[word] |= 1 << (number % WORD_BITS);
            }
        }
        verdict
    }

    /// Clear the words between the highest number and `number`, which becomes the highest.
    #[inline]
    fn advance(&mut self, number: u64) {
        let words = self.seen.len() as u64;
        let from = self.highest / WORD_BITS;
        let entered = (number / WORD_BITS - from).min(words);
        for step in 1..=entered {
            self.seen[((from + step) & (words - 1)) as usize] = 0;
        }
        self.highest = number;
    }

    /// Where a number's bit is; `None` without protection.
    #[inline]
    fn word_of(&self, number: u64) -> Option<usize> {
        let mask = (self.seen.len() as u64).checked_sub(1)?;
        Some(((number / WORD_BITS) & mask) as usize)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use Verdict::{Fresh, Replayed, TooOld};

    /// The oracle: every number ever accepted.
    struct Naive {
        size: u64,
        highest: u64,
        seen: HashSet<u64>,
    }

    impl Naive {
        fn accept(&mut self, number: u64) -> Verdict {
            if number == 0 || self.seen.contains(&number) && self.highest - number < self.size {
                return Replayed;
            }
            if number <= self.highest && self.highest - number >= self.size {
                return TooOld;
            }
            self.highest = self.highest.max(number);
            self.seen.insert(number);
            Fresh
        }

        /// The number with these low bits that is nearest above the window's bottom.
        fn infer(&self, low: u32) -> Option<u64> {
            let bottom = i128::from(self.highest) - i128::from(self.size) + 1;
            let span = i128::from(SPAN);
            let number = bottom + (i128::from(low) - bottom).rem_euclid(span);
            u64::try_from(number).ok()
        }
    }

    fn fresh(size: u32, esn: bool) -> Window {
        Window::new(size, esn, 0).unwrap()
    }

    /// Feed (number, expected) pairs to one fresh window.
    fn expect(size: u32, steps: &[(u64, Verdict)]) {
        let mut window = fresh(size, true);
        for (index, &(number, verdict)) in steps.iter().enumerate() {
            let says = format!("window {size}, step {index}: number {number}");
            assert_eq!(window.check(number), verdict, "{says}");
            assert_eq!(window.accept(number), verdict, "{says}");
        }
    }

    #[test]
    fn each_number_once_in_any_order_and_never_0() {
        for size in [32, 63, 64, 65, 1024, MAX_WINDOW] {
            expect(
                size,
                &[
                    (0, Replayed),
                    (1, Fresh),
                    (1, Replayed),
                    (9, Fresh),
                    (8, Fresh),
                    (7, Fresh),
                    (7, Replayed),
                    (8, Replayed),
                    (0, Replayed),
                    (2, Fresh),
                ],
            );
            expect(size, &[(1 << 40, Fresh), (0, Replayed), (1, TooOld)]);
        }
    }

    #[test]
    fn the_border_of_the_window_is_exact_for_every_size() {
        for size in (1..300).chain([1024, 4095, 4096, MAX_WINDOW]) {
            let w = u64::from(size);
            for top in [
                w,
                w + 1,
                w + 63,
                w + 64,
                w * 2 + 17,
                SPAN - 1,
                SPAN,
                SPAN + w,
            ] {
                let mut window = fresh(size, true);
                assert_eq!(window.accept(top), Fresh);
                assert_eq!(window.accept(top), Replayed);
                if let Some(below) = top.checked_sub(w).filter(|below| *below > 0) {
                    assert_eq!(window.accept(below), TooOld, "window {size}, T {top}");
                }
                if w > 1 {
                    assert_eq!(window.accept(top - w + 1), Fresh, "window {size}, T {top}");
                    assert_eq!(window.accept(top - w + 1), Replayed);
                }
                // One step forward, and what was the border is out.
                assert_eq!(window.accept(top + 1), Fresh);
                assert_eq!(window.accept(top - w + 1), TooOld);
            }
        }
    }

    #[test]
    fn a_jump_over_the_whole_ring_forgets_nothing_that_matters() {
        for size in [32, 64, 1024, MAX_WINDOW] {
            let bits = fresh(size, true).seen.len() as u64 * WORD_BITS;
            assert!(bits >= u64::from(size) + WORD_BITS);
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
                expect(
                    size,
                    &[
                        (5, Fresh),
                        (5 + jump, Fresh),
                        (5 + jump, Replayed),
                        (4 + jump, Fresh),
                        (4 + jump, Replayed),
                    ],
                );
            }
        }
    }

    #[test]
    fn without_a_window_everything_is_fresh_and_only_without_esn() {
        let mut window = fresh(0, false);
        for number in [7, 7, 3, 0, u64::from(u32::MAX), 7] {
            assert_eq!(window.accept(number), Fresh);
        }
        assert_eq!(window.highest(), u64::from(u32::MAX));
        assert!(Window::new(0, true, 0).is_none());
        assert!(Window::new(MAX_WINDOW + 1, true, 0).is_none());
        assert!(Window::new(MAX_WINDOW, false, 0).is_some());
        assert!(Window::new(64, false, SPAN).is_none());
    }

    #[test]
    fn without_esn_the_number_is_what_the_packet_shows() {
        let mut window = fresh(64, false);
        let last = u64::from(u32::MAX);
        assert_eq!(window.accept(last), Fresh);
        for low in [0, 1, 5, u32::MAX - 64, u32::MAX] {
            assert_eq!(window.infer(low), Some(u64::from(low)));
        }
        assert_eq!(window.accept(last), Replayed);
        assert_eq!(window.accept(1), TooOld);
    }

    #[test]
    fn appendix_a2_cases_a_and_b() {
        let at = |highest, low| {
            let mut window = fresh(1024, true);
            window.accept(highest);
            window.infer(low)
        };
        // Case A: all of the window in one span.
        let t = 5 * SPAN + 2000;
        assert_eq!(at(t, 2000), Some(t));
        assert_eq!(at(t, 977), Some(t - 1023));
        assert_eq!(at(t, 976), Some(t + SPAN - 1024));
        assert_eq!(at(t, u32::MAX), Some(6 * SPAN - 1));
        assert_eq!(at(t, 0), Some(6 * SPAN));
        // Its edge: the window begins at the span's first number.
        let t = 5 * SPAN + 1023;
        assert_eq!(at(t, 0), Some(5 * SPAN));
        assert_eq!(at(t, u32::MAX), Some(6 * SPAN - 1));
        // Case B: it begins in the span before.
        let t = 5 * SPAN + 1022;
        assert_eq!(at(t, u32::MAX), Some(5 * SPAN - 1));
        assert_eq!(at(t, 0), Some(5 * SPAN));
        assert_eq!(at(t, u32::MAX - 1), Some(6 * SPAN - 2));
        let t = 5 * SPAN;
        assert_eq!(at(t, u32::MAX - 1022), Some(t - 1023));
        assert_eq!(at(t, u32::MAX - 1023), Some(t + SPAN - 1024));
        // The first span has none before it.
        assert_eq!(at(1, u32::MAX), None);
        assert_eq!(fresh(1024, true).infer(u32::MAX), None);
        assert_eq!(fresh(1024, true).infer(1), Some(1));
        // Nor has the last one any behind.
        assert_eq!(at(u64::MAX, 5), None);
        assert_eq!(at(u64::MAX, u32::MAX), Some(u64::MAX));
    }

    #[test]
    fn the_wrap_of_the_low_half_loses_and_repeats_nothing() {
        for size in [32, 1024, MAX_WINDOW] {
            let mut window = Window::new(size, true, 3 * SPAN - 200).unwrap();
            for number in 3 * SPAN - 199..3 * SPAN + 200 {
                assert_eq!(window.infer(number as u32), Some(number));
                assert_eq!(window.accept(number), Fresh);
                for late in number.saturating_sub(u64::from(size) - 1)..=number {
                    assert_eq!(window.infer(late as u32), Some(late), "late at {number}");
                    assert_eq!(window.check(late), Replayed, "late at {number}");
                    if size > 1024 && late < number - 400 {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_that_lives_on_has_seen_everything_up_to_there() {
        for received in [1, 63, 64, 65, 1000, SPAN + 7] {
            for size in [32, 64, 1024] {
                let mut window = Window::new(size, true, received).unwrap();
                assert_eq!(window.highest(), received);
                let oldest = received.saturating_sub(u64::from(size) - 1);
                assert!((oldest..=received).all(|number| window.check(number) == Replayed));
                for number in received + 1..received + 3000 {
                    assert_eq!(window.accept(number), Fresh, "{number} after {received}");
                }
            }
        }
    }

    #[test]
    fn a_million_replays_deliver_nothing() {
        for size in [64, 1024, MAX_WINDOW] {
            let mut window = fresh(size, true);
            assert!((1..20_000).all(|number| window.accept(number) == Fresh));
            let replay = |step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20_000;
            assert!((0..1_000_000).all(|step| window.accept(replay(step)) != Fresh));
        }
    }

    proptest! {
        #[test]
        fn equals_the_oracle(
            base in prop_oneof![Just(0), Just(SPAN - 5000), Just(SPAN), Just((1 << 60) - 5000), Just(u64::MAX - 70_000)],
            size in prop_oneof![1_u32..200, Just(1024), Just(4096), Just(MAX_WINDOW)],
            steps in prop::collection::vec(prop_oneof![0_u64..200, 0_u64..5000, 0_u64..70_000], 1..400),
        ) {
            let mut window = fresh(size, true);
            let mut naive = Naive { size: size.into(), highest: 0, seen: HashSet::new() };
            for step in steps {
                let number = base + step;
                prop_assert_eq!(window.infer(number as u32), naive.infer(number as u32), "infer {}", number);
                prop_assert_eq!(window.accept(number), naive.accept(number), "number {}", number);
                prop_assert_eq!(window.highest(), naive.highest);
            }
        }
    }
}
