//! One session: the keys that two successful handshake messages gave, and what has been used of them.
//!
//! A counter is handed out once (`reserve` is an atomic add; there is no other way to a nonce) and refused from `REJECT_AFTER_MESSAGES` on.
//! Keys are zeroed when the last holder lets go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;

use ginnel_crypto::{PacketKey, Secret};
use ginnel_wireguard::constants::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME_NS};
use ginnel_wireguard::constants::{
    REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME_NS, REKEY_ON_RECEIVE_TIME_NS,
};
use ginnel_wireguard::replay::Window;

pub struct Session {
    pub local_index: u32,
    pub remote_index: u32,
    pub initiator: bool,
    pub created_ns: u64,
    pub sending: PacketKey,
    pub receiving: PacketKey,
    next_counter: AtomicU64,
    /// Touched by the receiving thread alone; the lock is for the type system and never contended.
    pub window: Mutex<Window>,
    expired: AtomicBool,
    asked_on_receive: AtomicBool,
}

impl Session {
    pub fn new(
        local_index: u32,
        remote_index: u32,
        send: &Secret,
        receive: &Secret,
        initiator: bool,
        now_ns: u64,
    ) -> Self {
        Self {
            local_index,
            remote_index,
            initiator,
            created_ns: now_ns,
            sending: PacketKey::new(send),
            receiving: PacketKey::new(receive),
            next_counter: AtomicU64::new(0),
            window: Mutex::new(Window::new()),
            expired: AtomicBool::new(false),
            asked_on_receive: AtomicBool::new(false),
        }
    }

    pub fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.created_ns)
    }

    /// Keys live 180 s, for receiving as for sending.
    pub fn is_alive(&self, now_ns: u64) -> bool {
        self.age_ns(now_ns) < REJECT_AFTER_TIME_NS
    }

    pub fn may_send(&self, now_ns: u64) -> bool {
        !self.expired.load(Ordering::Relaxed)
            && self.is_alive(now_ns)
            && self.next_counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// Takes *count* consecutive counters; `None` when the session has not that many left, and it is then over for sending: were it still
    /// offered, a batch larger than what is left would be tried for ever.
    pub fn reserve(&self, count: u64) -> Option<u64> {
        let taken = self
            .next_counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(count)
                    .filter(|after| *after <= REJECT_AFTER_MESSAGES)
            })
            .ok();
        if taken.is_none() {
            self.expire();
        }
        taken
    }

    /// For sending no more: the private key changed, so the next packet must begin a handshake.
    pub fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }

    /// After a send: is it time for the next handshake?
    pub fn is_ageing_on_send(&self, now_ns: u64) -> bool {
        self.next_counter.load(Ordering::Relaxed) > REKEY_AFTER_MESSAGES
            || (self.initiator && self.age_ns(now_ns) >= REKEY_AFTER_TIME_NS)
    }

    /// After a receive: the same, for a side that only listens; true at most once a session.
    pub fn is_ageing_on_receive(&self, now_ns: u64) -> bool {
        self.initiator
            && self.age_ns(now_ns) >= REKEY_ON_RECEIVE_TIME_NS
            && !self.asked_on_receive.swap(true, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set_counter(&self, next: u64) {
        self.next_counter.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn session(initiator: bool) -> Session {
        Session::new(
            1,
            2,
            &Secret::random().unwrap(),
            &Secret::random().unwrap(),
            initiator,
            1000 * SECOND,
        )
    }

    /// R3: the last counters before `REJECT_AFTER_MESSAGES` are usable, none after it, and none twice.
    #[test]
    fn counters_end_at_reject_after_messages() {
        let session = session(true);
        session.set_counter(REJECT_AFTER_MESSAGES - 2);
        assert!(session.may_send(1000 * SECOND));
        assert_eq!(session.reserve(3), None);
        assert!(
            !session.may_send(1000 * SECOND),
            "a refused batch must not be offered the same session again"
        );
        assert_eq!(session.reserve(1), Some(REJECT_AFTER_MESSAGES - 2));
        assert_eq!(session.reserve(1), Some(REJECT_AFTER_MESSAGES - 1));
        assert_eq!(session.reserve(1), None);
        assert!(!session.may_send(1000 * SECOND));
        session.set_counter(u64::MAX);
        assert_eq!(session.reserve(1), None);
    }

    #[test]
    fn rekeys_after_messages_on_either_side() {
        let session = session(false);
        session.set_counter(REKEY_AFTER_MESSAGES);
        assert!(!session.is_ageing_on_send(1000 * SECOND));
        session.reserve(1).unwrap();
        assert!(session.is_ageing_on_send(1000 * SECOND));
    }

    #[test]
    fn ages_by_the_clock_to_the_nanosecond() {
        let (ours, theirs) = (session(true), session(false));
        let start = 1000 * SECOND;
        assert!(!ours.is_ageing_on_send(start + 120 * SECOND - 1));
        assert!(ours.is_ageing_on_send(start + 120 * SECOND));
        assert!(
            !theirs.is_ageing_on_send(start + 179 * SECOND),
            "only the initiator rekeys"
        );
        assert!(!ours.is_ageing_on_receive(start + 165 * SECOND - 1));
        assert!(ours.is_ageing_on_receive(start + 165 * SECOND));
        assert!(
            !ours.is_ageing_on_receive(start + 170 * SECOND),
            "once a session"
        );
        assert!(!theirs.is_ageing_on_receive(start + 170 * SECOND));
        assert!(ours.may_send(start + 180 * SECOND - 1));
        assert!(!ours.may_send(start + 180 * SECOND));
        assert!(!ours.is_alive(start + 180 * SECOND));
    }

    #[test]
    fn an_expired_session_still_receives() {
        let session = session(true);
        session.expire();
        assert!(!session.may_send(1000 * SECOND));
        assert!(session.is_alive(1000 * SECOND));
    }
}
