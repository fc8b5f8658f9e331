//! Sending at a rate: as many as are due by the clock, in batches, and sleeping in between.

use std::time::{Duration, Instant};

use crate::sys::BATCH;

/// The longest sleep: at 20,000/s batches of 4.
const NAP: Duration = Duration::from_micros(200);
/// What was missed is not made up for beyond this many at once: a stall must not become a burst.
const MAX_BACKLOG: u64 = 1024;

/// Tells how many messages are due.
pub struct Pace {
    start: Instant,
    end: Instant,
    /// Messages a second; 0 = as fast as the machine can.
    rate: u64,
    allowed: u64,
}

impl Pace {
    pub fn new(rate: u64, duration: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + duration,
            rate,
            allowed: 0,
        }
    }

    /// Wait until something is due; how many, at most `BATCH`. None when the time is over.
    pub fn due(&mut self) -> Option<usize> {
        loop {
            let now = Instant::now();
            if now >= self.end {
                return None;
            }
            if self.rate == 0 {
                return Some(BATCH);
            }
            let by_now = (now - self.start).as_nanos() as u64 / 1000 * self.rate / 1_000_000 + 1;
            if by_now > self.allowed {
                self.allowed = self.allowed.max(by_now.saturating_sub(MAX_BACKLOG));
                let count = (by_now - self.allowed).min(BATCH as u64);
                self.allowed += count;
                return Some(count as usize);
            }
            let next = self.start
                + Duration::from_nanos((self.allowed as f64 * 1e9 / self.rate as f64) as u64);
            std::thread::sleep(
                next.saturating_duration_since(now)
                    .max(Duration::from_micros(20))
                    .max(NAP.min(self.end - now)),
            );
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        for rate in [100, 5_000, 200_000] {
            let mut pace = Pace::new(rate, Duration::from_millis(300));
            let mut sent = 0;
            while let Some(count) = pace.due() {
                assert!(count <= BATCH);
                sent += count as u64;
            }
            assert!(sent <= rate * 3 / 10 + 2, "{rate}: {sent}");
            assert!(sent >= rate / 10, "{rate}: {sent}");
        }
    }
}
