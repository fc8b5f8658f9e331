//! A token bucket: what bounds everything that strangers can have us do, ICMP answers and events above all.

const SECOND_NS: u64 = 1_000_000_000;

/// So many a second, and up to `burst` at once after a rest.
pub(crate) struct Bucket {
    per_second: u64,
    burst: u64,
    tokens: u64,
    refilled_ns: u64,
}

impl Bucket {
    pub fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            refilled_ns: 0,
        }
    }

    /// Whether one is left; it is not taken.
    pub fn ready(&mut self, now_ns: u64) -> bool {
        let interval_ns = SECOND_NS / self.per_second;
        let refill = now_ns.saturating_sub(self.refilled_ns) / interval_ns;
        if refill > 0 {
            self.tokens = self.burst.min(self.tokens.saturating_add(refill));
            self.refilled_ns = if self.tokens == self.burst {
                now_ns
            } else {
                self.refilled_ns + refill * interval_ns
            };
        }
        self.tokens > 0
    }

    /// Takes one, if any is left.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let any = self.ready(now_ns);
        self.tokens -= u64::from(any);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(10, 10);
        let start_ns = 5 * SECOND_NS;
        let taken = (0..100).filter(|_| bucket.take(start_ns)).count();
        assert_eq!(taken, 10);
        // Ten a second over three seconds, asked every millisecond.
        let taken = (1..=3000)
            .filter(|ms| bucket.take(start_ns + ms * 1_000_000))
            .count();
        assert_eq!(taken, 30);
        let taken = (0..100)
            .filter(|_| bucket.take(start_ns + 60 * SECOND_NS))
            .count();
        assert_eq!(taken, 10);
    }
}
