//! The three timers of a peer that data packets drive, as armed deadlines.
//!
//! | timer | armed by | disarmed by | when it expires |
//! | --- | --- | --- | --- |
//! | `send_keepalive` | data received, +10 s, unless armed already | any authenticated packet sent | an empty packet goes out |
//! | `new_handshake` | data sent, +15 s + jitter, unless armed already | any authenticated packet received | the peer is silent: forget the source address, start a handshake |
//! | `persistent_keepalive` | every authenticated packet, either way, +interval | interval 0 | an empty packet goes out |
//!
//! *Data* has a payload: neither keepalives nor handshakes are data. That is what keeps two idle peers from answering
//! each other's keepalives forever, and an idle tunnel from handshaking every 15 seconds.
//!
//! Data that arrives while `send_keepalive` is armed sets `need_another`, so that nothing is moved once a packet: one more
//! period follows the keepalive then sent. The keepalive that `expire` asks for is reported like any other packet by
//! `any_authenticated_sent`, and that one report does not disarm the period that follows it.
//!
//! Time is an argument: nanoseconds of a clock that never goes back and counts suspend (`CLOCK_BOOTTIME`), greater than 0.
//! A time before the last one is harmless: deadlines are compared, never subtracted.

use crate::constants::{
    KEEPALIVE_TIMEOUT_NS, NEW_HANDSHAKE_TIME_NS, REKEY_TIMEOUT_JITTER_MAX_NS, SECOND_NS,
};

/// Not armed.
const OFF: u64 = 0;

/// What `DataTimers::expire` found due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Send an empty packet because data came and nothing was sent back.
    pub keepalive: bool,
    /// Send an empty packet because the operator asked for a steady flow. With `keepalive`, one packet serves both.
    pub persistent: bool,
    /// The peer is silent: clear the endpoint's source address and ask for a handshake.
    pub new_handshake: bool,
}

/// The armed deadlines of one peer.
#[derive(Clone, Debug, Default)]
pub struct DataTimers {
    send_keepalive_ns: u64,
    new_handshake_ns: u64,
    persistent_ns: u64,
    /// Interval of the persistent keepalive; 0 = off.
    interval_s: u16,
    /// Data came while `send_keepalive` was armed.
    need_another: bool,
    /// The next authenticated packet sent is the keepalive that `expire` asked for.
    own_keepalive: bool,
}

impl DataTimers {
    /// All timers off.
    pub fn new() -> Self {
        Self::default()
    }

    /// A packet with payload goes out. `jitter_ns` is random, see `jitter_ns`; more than a third of a second is cut off.
    pub fn data_sent(&mut self, now: u64, jitter_ns: u64) {
        if self.new_handshake_ns == OFF {
            self.new_handshake_ns =
                now + NEW_HANDSHAKE_TIME_NS + jitter_ns.min(REKEY_TIMEOUT_JITTER_MAX_NS);
        }
    }

    /// A packet with payload was authenticated.
    pub fn data_received(&mut self, now: u64) {
        if self.send_keepalive_ns == OFF {
            self.send_keepalive_ns = now + KEEPALIVE_TIMEOUT_NS;
        } else {
            self.need_another = true;
        }
    }

    /// Data, a keepalive or a handshake message goes out. (Time does not matter here; it is taken as everywhere.)
    pub fn any_authenticated_sent(&mut self, _now: u64) {
        if self.own_keepalive {
            self.own_keepalive = false;
        } else {
            self.stop_keepalive();
        }
    }

    /// Data, a keepalive or a handshake message was authenticated.
    pub fn any_authenticated_received(&mut self, _now: u64) {
        self.new_handshake_ns = OFF;
    }

    /// An authenticated packet passed, either way.
    pub fn any_traversal(&mut self, now: u64) {
        if self.interval_s != 0 {
            self.persistent_ns = now + self.interval_ns();
        }
    }

    /// Set the persistent keepalive, 0 = off. True when one must be sent at once: the interface is up, and none was armed.
    ///
    /// The same interval again changes nothing, so that applying a configuration every few seconds postpones no keepalive.
    pub fn set_persistent(&mut self, interval_s: u16, now: u64, up: bool) -> bool {
        let was_off = self.persistent_ns == OFF;
        if interval_s == self.interval_s && !(was_off && up) {
            return false;
        }
        self.interval_s = interval_s;
        self.persistent_ns = OFF;
        if up {
            self.any_traversal(now);
        }
        was_off && self.persistent_ns != OFF
    }

    /// The interface comes up. True when a keepalive must be sent at once.
    pub fn start(&mut self, now: u64) -> bool {
        self.any_traversal(now);
        self.interval_s != 0
    }

    /// The interface goes down: everything off, the interval remembered.
    pub fn stop(&mut self) {
        *self = Self {
            interval_s: self.interval_s,
            ..Self::default()
        };
    }

    /// Disarm `send_keepalive`: something was sent, or the handshake was given up.
    pub fn stop_keepalive(&mut self) {
        self.send_keepalive_ns = OFF;
        self.need_another = false;
        self.own_keepalive = false;
    }

    /// The persistent keepalive's interval; 0 = off.
    pub fn persistent_s(&self) -> u16 {
        self.interval_s
    }

    /// When `expire` next has something to say; 0 = nothing is armed.
    pub fn next_deadline(&self) -> u64 {
        // OFF is 0: less one, it wraps to the far end and loses.
        [
            self.send_keepalive_ns,
            self.new_handshake_ns,
            self.persistent_ns,
        ]
        .into_iter()
        .map(|deadline| deadline.wrapping_sub(1))
        .min()
        .unwrap_or(u64::MAX)
        .wrapping_add(1)
    }

    /// Take what is due at `now`.
    pub fn expire(&mut self, now: u64) -> Expired {
        let expired = Expired {
            keepalive: is_due(self.send_keepalive_ns, now),
            persistent: is_due(self.persistent_ns, now),
            new_handshake: is_due(self.new_handshake_ns, now),
        };
        if expired.keepalive {
            self.send_keepalive_ns = if self.need_another {
                now + KEEPALIVE_TIMEOUT_NS
            } else {
                OFF
            };
            self.own_keepalive = self.need_another;
            self.need_another = false;
        }
        if expired.persistent {
            // The packet re-arms it as every packet does; when none can be sent it must not die of that.
            self.any_traversal(now);
        }
        if expired.new_handshake {
            self.new_handshake_ns = OFF;
        }
        expired
    }

    fn interval_ns(&self) -> u64 {
        u64::from(self.interval_s) * SECOND_NS
    }
}

fn is_due(deadline: u64, now: u64) -> bool {
    deadline != OFF && deadline <= now
}

/// Map a uniform random number to a uniform jitter of 0 to 333 ms.
pub fn jitter_ns(random: u32) -> u64 {
    (u64::from(random) * (REKEY_TIMEOUT_JITTER_MAX_NS + 1)) >> 32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::constants::MILLISECOND_NS;

    const MS: u64 = MILLISECOND_NS;
    const S: u64 = SECOND_NS;
    /// Any start but 0.
    const T0: u64 = 1_000 * S;

    fn keepalive() -> Expired {
        Expired {
            keepalive: true,
            ..Expired::default()
        }
    }

    fn silent() -> Expired {
        Expired {
            new_handshake: true,
            ..Expired::default()
        }
    }

    fn persistent() -> Expired {
        Expired {
            persistent: true,
            ..Expired::default()
        }
    }

    /// Nothing is due a millisecond before `at`, and `what` exactly then.
    fn due(timers: &mut DataTimers, at: u64, what: Expired) {
        assert_eq!(timers.next_deadline(), at);
        assert_eq!(timers.expire(at - MS), Expired::default());
        assert_eq!(timers.next_deadline(), at);
        assert_eq!(timers.expire(at), what);
    }

    #[test]
    fn a_new_peer_has_nothing_armed() {
        let mut timers = DataTimers::new();
        assert_eq!(timers.next_deadline(), 0);
        assert_eq!(timers.expire(u64::MAX), Expired::default());
    }

    #[test]
    fn received_data_is_answered_after_ten_seconds_of_saying_nothing() {
        let mut timers = DataTimers::new();
        timers.data_received(T0);
        due(&mut timers, T0 + 10 * S, keepalive());
        timers.any_authenticated_sent(T0 + 10 * S);
        assert_eq!(timers.next_deadline(), 0);
    }

    #[test]
    fn anything_sent_makes_the_keepalive_needless() {
        let mut timers = DataTimers::new();
        timers.data_received(T0);
        timers.data_received(T0 + S);
        timers.any_authenticated_sent(T0 + 2 * S);
        assert_eq!(timers.next_deadline(), 0);
        // need_another went with it: one packet later is one keepalive, not two.
        timers.data_received(T0 + 3 * S);
        due(&mut timers, T0 + 13 * S, keepalive());
        timers.any_authenticated_sent(T0 + 13 * S);
        assert_eq!(timers.next_deadline(), 0);
    }

    #[test]
    fn data_while_armed_asks_for_one_more_period() {
        let mut timers = DataTimers::new();
        timers.data_received(T0);
        timers.data_received(T0 + 9 * S);
        due(&mut timers, T0 + 10 * S, keepalive());
        timers.any_authenticated_sent(T0 + 10 * S); // that keepalive itself
        due(&mut timers, T0 + 20 * S, keepalive());
        timers.any_authenticated_sent(T0 + 20 * S);
        assert_eq!(timers.next_deadline(), 0);
    }

    #[test]
    fn the_further_period_ends_with_the_first_other_packet() {
        let mut timers = DataTimers::new();
        timers.data_received(T0);
        timers.data_received(T0 + S);
        assert_eq!(timers.expire(T0 + 10 * S), keepalive());
        timers.any_authenticated_sent(T0 + 10 * S);
        timers.any_authenticated_sent(T0 + 10 * S + MS);
        assert_eq!(timers.next_deadline(), 0);
    }

    #[test]
    fn unanswered_data_asks_for_a_handshake_after_fifteen_seconds_and_jitter() {
        let mut timers = DataTimers::new();
        timers.data_sent(T0, 123 * MS);
        timers.data_sent(T0 + 14 * S, 0); // armed already: it does not move
        due(&mut timers, T0 + 15 * S + 123 * MS, silent());
        assert_eq!(timers.next_deadline(), 0);
        timers.data_sent(T0 + 16 * S, u64::MAX); // more jitter than there may be
        assert_eq!(timers.next_deadline(), T0 + 31 * S + 333 * MS);
        timers.any_authenticated_received(T0 + 17 * S);
        assert_eq!(timers.next_deadline(), 0);
    }

    #[test]
    fn persistent_keepalive_follows_every_packet_and_never_disturbs_an_active_tunnel() {
        let mut timers = DataTimers::new();
        assert!(
            timers.set_persistent(25, T0, true),
            "turned on while up: one at once"
        );
        timers.any_authenticated_sent(T0);
        timers.any_traversal(T0);
        // An hour of one packet every 24 s.
        for packet in 1..150 {
            assert_eq!(timers.expire(T0 + packet * 24 * S), Expired::default());
            timers.any_traversal(T0 + packet * 24 * S);
        }
        let quiet = T0 + 149 * 24 * S;
        due(&mut timers, quiet + 25 * S, persistent());
        timers.any_authenticated_sent(quiet + 25 * S);
        timers.any_traversal(quiet + 25 * S);
        due(&mut timers, quiet + 50 * S, persistent());
        // Not even sent (no endpoint): it does not die of it.
        due(&mut timers, quiet + 75 * S, persistent());
    }

    #[test]
    fn setting_the_interval() {
        let mut timers = DataTimers::new();
        assert!(
            !timers.set_persistent(25, T0, false),
            "down: nothing is sent"
        );
        assert_eq!(timers.next_deadline(), 0);
        assert!(timers.start(T0 + S), "up: one at once");
        assert_eq!(timers.next_deadline(), T0 + 26 * S);
        assert!(
            !timers.set_persistent(25, T0 + 9 * S, true),
            "the same again"
        );
        assert_eq!(timers.next_deadline(), T0 + 26 * S, "and postpones nothing");
        assert!(
            !timers.set_persistent(10, T0 + 9 * S, true),
            "changed, not turned on"
        );
        assert_eq!(timers.next_deadline(), T0 + 19 * S);
        assert!(!timers.set_persistent(0, T0 + 10 * S, true));
        assert_eq!(timers.next_deadline(), 0);
        timers.any_traversal(T0 + 11 * S);
        assert_eq!(timers.next_deadline(), 0);
        assert!(!timers.start(T0 + 12 * S));
        // Down and up again: the same interval begins anew.
        assert!(timers.set_persistent(30, T0 + 20 * S, true));
        timers.stop();
        assert!(!timers.set_persistent(30, T0 + 21 * S, false));
        assert!(timers.set_persistent(30, T0 + 22 * S, true));
        assert_eq!(timers.next_deadline(), T0 + 52 * S);
        assert!(!timers.set_persistent(30, T0 + 23 * S, true));
    }

    #[test]
    fn stopping() {
        let mut timers = DataTimers::new();
        timers.set_persistent(25, T0, true);
        timers.data_sent(T0, 0);
        timers.data_received(T0);
        timers.data_received(T0);
        timers.stop_keepalive();
        assert_eq!(timers.next_deadline(), T0 + 15 * S);
        timers.stop();
        assert_eq!(timers.next_deadline(), 0);
        assert_eq!(timers.persistent_s(), 25);
    }

    #[test]
    fn the_earliest_deadline_wins_and_all_due_come_together() {
        let mut timers = DataTimers::new();
        timers.set_persistent(12, T0, true);
        timers.data_sent(T0, 0);
        assert_eq!(timers.next_deadline(), T0 + 12 * S);
        timers.data_received(T0);
        assert_eq!(timers.next_deadline(), T0 + 10 * S);
        assert_eq!(
            timers.expire(T0 + 15 * S),
            Expired {
                keepalive: true,
                persistent: true,
                new_handshake: true
            }
        );
        assert_eq!(timers.next_deadline(), T0 + 27 * S);
    }

    #[test]
    fn r13_a_clock_that_goes_back_is_harmless() {
        let mut timers = DataTimers::new();
        timers.data_received(T0);
        timers.data_sent(T0 - 500 * S, 0);
        assert_eq!(timers.expire(1), Expired::default());
        timers.any_authenticated_received(0);
        assert_eq!(timers.expire(T0 + 10 * S), keepalive());
    }

    /// Two peers and a link of 20 ms; counts the keepalives each sends. What a datagram carries is "has payload".
    struct Link {
        peers: [DataTimers; 2],
        /// (arrival, to, has payload), in order.
        flying: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize, bool)>>,
        keepalives: [u32; 2],
        handshakes: [u32; 2],
    }

    impl Link {
        fn new() -> Self {
            Self {
                peers: [DataTimers::new(), DataTimers::new()],
                flying: std::collections::BinaryHeap::new(),
                keepalives: [0; 2],
                handshakes: [0; 2],
            }
        }

        fn send(&mut self, from: usize, payload: bool, now: u64) {
            let timers = &mut self.peers[from];
            if payload {
                timers.data_sent(now, 0);
            } else {
                self.keepalives[from] += 1;
            }
            timers.any_authenticated_sent(now);
            timers.any_traversal(now);
            self.flying
                .push(std::cmp::Reverse((now + 20 * MS, 1 - from, payload)));
        }

        fn run_until(&mut self, end: u64) {
            loop {
                let arrival = self.flying.peek().map_or(u64::MAX, |next| next.0 .0);
                let deadline = |peer: &DataTimers| match peer.next_deadline() {
                    0 => u64::MAX,
                    at => at,
                };
                let now = arrival
                    .min(deadline(&self.peers[0]))
                    .min(deadline(&self.peers[1]));
                if now > end {
                    return;
                }
                if arrival == now {
                    let std::cmp::Reverse((_, to, payload)) = self.flying.pop().unwrap();
                    let timers = &mut self.peers[to];
                    timers.any_authenticated_received(now);
                    timers.any_traversal(now);
                    if payload {
                        timers.data_received(now);
                    }
                }
                for side in 0..2 {
                    let expired = self.peers[side].expire(now);
                    self.handshakes[side] += u32::from(expired.new_handshake);
                    if expired.keepalive || expired.persistent {
                        self.send(side, false, now);
                    }
                }
            }
        }
    }

    const DAY: u64 = 24 * 3600 * S;

    #[test]
    fn r10_two_idle_peers_fall_silent_for_a_day() {
        let mut link = Link::new();
        link.send(0, true, T0);
        link.run_until(T0 + DAY);
        assert_eq!(
            link.keepalives,
            [0, 1],
            "one packet of data is answered by one keepalive, which nothing answers"
        );
        assert_eq!(link.handshakes, [0, 0]);
    }

    #[test]
    fn r10_two_idle_peers_with_a_persistent_keepalive_on_one_side() {
        let mut link = Link::new();
        assert!(link.peers[0].set_persistent(25, T0, true));
        link.send(0, false, T0);
        link.run_until(T0 + DAY);
        assert_eq!(link.keepalives, [1 + 24 * 3600 / 25, 0]);
        assert_eq!(link.handshakes, [0, 0]);
    }

    #[test]
    fn r10_with_one_on_both_sides_only_the_faster_speaks() {
        let mut link = Link::new();
        link.peers[0].set_persistent(20, T0, true);
        link.peers[1].set_persistent(25, T0, true);
        link.send(0, false, T0);
        link.run_until(T0 + DAY);
        assert_eq!(
            link.keepalives,
            [1 + 24 * 3600 / 20, 0],
            "a peer that hears keepalives has no reason to send its own"
        );
    }

    #[test]
    fn one_way_traffic_costs_a_keepalive_every_ten_seconds_and_no_handshake() {
        let mut link = Link::new();
        for packet in 0..3600 * 10 {
            let now = T0 + packet * 100 * MS;
            link.run_until(now);
            link.send(0, true, now);
        }
        assert_eq!(link.handshakes, [0, 0]);
        assert!(
            (359..=360).contains(&link.keepalives[1]),
            "{:?}",
            link.keepalives
        );
        assert_eq!(link.keepalives[0], 0);
    }

    #[test]
    fn r11_jitter_is_there_and_even() {
        let mut random = 0x1234_5678_u32;
        let mut buckets = [0_u32; 10];
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut timers = DataTimers::new();
            timers.data_sent(T0, jitter_ns(random));
            let late = timers.next_deadline() - (T0 + 15 * S);
            assert!(late <= 333 * MS);
            buckets[(late / (34 * MS)) as usize] += 1;
        }
        // 10,000 draws over 333 ms: 1,021 a bucket of 34 ms (27 ms the last), standard deviation 30.
        assert!(
            buckets[..9]
                .iter()
                .all(|&count| (871..1171).contains(&count)),
            "{buckets:?}"
        );
        assert!((681..941).contains(&buckets[9]), "{buckets:?}");
        assert_eq!((jitter_ns(0), jitter_ns(u32::MAX)), (0, 333 * MS));
    }
}
