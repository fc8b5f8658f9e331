//! One peer: where it is, its up to three sessions, its data timers, the packets that wait for a session.
//!
//! The state is one mutex, held for a few hundred nanoseconds a *batch*; encryption happens outside it. Rules that the rest relies on:
//! counters are taken only by the transmitting thread; staged packets go out before newer ones; `next` becomes `current` only with the
//! first authenticated packet; a session that leaves the state leaves the index table in the same step.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use ginnel_wireguard::constants::MAX_STAGED_PACKETS;
use ginnel_wireguard::timers::DataTimers;

use crate::event::Need;
use crate::session::Session;

#[derive(Default)]
pub struct Counters {
    pub rx_bytes: AtomicU64,
    pub tx_bytes: AtomicU64,
    pub rx_packets: AtomicU64,
    pub tx_packets: AtomicU64,
    pub last_receive_ns: AtomicU64,
    pub last_send_ns: AtomicU64,
}

pub struct Peer {
    pub id: u32,
    pub counters: Counters,
    /// An `EndpointChanged` waits in the queue.
    pub endpoint_announced: AtomicBool,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub removed: bool,
    pub endpoint: Option<SocketAddr>,
    /// Our address that the peer last wrote to: replies come from it.
    pub source: Option<IpAddr>,
    pub previous: Option<Arc<Session>>,
    pub current: Option<Arc<Session>>,
    pub next: Option<Arc<Session>>,
    pub timers: DataTimers,
    /// Finished inner packets; an empty one is a keepalive.
    pub staged: VecDeque<Box<[u8]>>,
    /// A `SessionNeeded` was sent and not answered yet.
    pub asked: Option<Need>,
    /// The entry of this peer in the schedule; 0 for none.
    pub scheduled_ns: u64,
    /// Indices of handshakes under way.
    pub reserved: Vec<u32>,
}

impl Peer {
    pub fn new(id: u32) -> Self {
        Self {
            id,
            counters: Counters::default(),
            endpoint_announced: AtomicBool::new(false),
            state: Mutex::new(State::default()),
        }
    }
}

impl State {
    /// Puts a packet behind the others; true when the oldest had to give way and was no mere keepalive.
    pub fn stage(&mut self, packet: &[u8]) -> bool {
        let full = self.staged.len() >= MAX_STAGED_PACKETS;
        let lost = if full { self.staged.pop_front() } else { None };
        self.staged.push_back(packet.into());
        lost.is_some_and(|lost| !lost.is_empty())
    }

    /// A keepalive is only worth sending when nothing else waits.
    pub fn stage_keepalive(&mut self) {
        if self.staged.is_empty() {
            self.staged.push_back(Box::default());
        }
    }

    /// The session that may seal now.
    pub fn sendable(&self, now_ns: u64) -> Option<&Arc<Session>> {
        self.current
            .as_ref()
            .filter(|session| session.may_send(now_ns))
    }

    /// A new session after a handshake (kernel `add_new_keypair`); returns those that leave.
    ///
    /// We initiated: it is current at once, and what was unconfirmed or current becomes previous. We answered: it waits as next, and
    /// previous goes, since the peer has shown by its new handshake that it left it.
    pub fn install(&mut self, session: Arc<Session>) -> Vec<Arc<Session>> {
        let mut leaving = Vec::new();
        if session.initiator {
            if let Some(next) = self.next.take() {
                leaving.extend(self.previous.replace(next));
                leaving.extend(self.current.replace(session));
            } else {
                leaving.extend(std::mem::replace(
                    &mut self.previous,
                    self.current.replace(session),
                ));
            }
        } else {
            leaving.extend(self.next.replace(session));
            leaving.extend(self.previous.take());
        }
        self.asked = None;
        leaving
    }

    /// Something was received: is it time for the next handshake, for a side that only listens? Once a session, and of the current one,
    /// whichever the packet came under: one that is being replaced asks for nothing (kernel `keep_key_fresh`).
    pub fn is_ageing_on_receive(&self, now_ns: u64) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.is_ageing_on_receive(now_ns))
    }

    /// Gives back the room of a long queue once it is empty: there may be ten thousand peers.
    pub fn trim_staged(&mut self) {
        if self.staged.is_empty() && self.staged.capacity() > 8 {
            self.staged = VecDeque::new();
        }
    }

    /// Whether *session* waits for its first packet.
    pub fn awaits(&self, session: &Arc<Session>) -> bool {
        self.next
            .as_ref()
            .is_some_and(|next| Arc::ptr_eq(next, session))
    }

    /// The first authenticated packet under `next` makes it current (kernel `received_with_keypair`); returns what leaves.
    pub fn confirm(&mut self) -> Option<Arc<Session>> {
        let leaving = std::mem::replace(&mut self.previous, self.current.take());
        self.current = self.next.take();
        self.asked = None;
        leaving
    }

    pub fn take_sessions(&mut self) -> impl Iterator<Item = Arc<Session>> {
        [self.previous.take(), self.current.take(), self.next.take()]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ginnel_crypto::Secret;

    fn session(index: u32, initiator: bool) -> Arc<Session> {
        let key = || Secret::random().unwrap();
        Arc::new(Session::new(
            index,
            index + 100,
            &key(),
            &key(),
            initiator,
            0,
        ))
    }

    fn indices(state: &State) -> [Option<u32>; 3] {
        [&state.previous, &state.current, &state.next]
            .map(|slot| slot.as_ref().map(|session| session.local_index))
    }

    fn left(leaving: &[Arc<Session>]) -> Vec<u32> {
        leaving.iter().map(|session| session.local_index).collect()
    }

    #[test]
    fn initiator_rotates_current_to_previous() {
        let mut state = State::default();
        assert!(state.install(session(1, true)).is_empty());
        assert!(state.install(session(2, true)).is_empty());
        assert_eq!(indices(&state), [Some(1), Some(2), None]);
        assert_eq!(left(&state.install(session(3, true))), [1]);
        assert_eq!(indices(&state), [Some(2), Some(3), None]);
    }

    #[test]
    fn an_unconfirmed_next_becomes_previous_when_we_initiate() {
        let mut state = State::default();
        state.install(session(1, true));
        state.install(session(2, false));
        assert_eq!(indices(&state), [None, Some(1), Some(2)]);
        assert_eq!(left(&state.install(session(3, true))), [1]);
        assert_eq!(indices(&state), [Some(2), Some(3), None]);
    }

    #[test]
    fn responder_waits_for_the_first_packet() {
        let mut state = State::default();
        let (first, second) = (session(1, false), session(2, false));
        state.install(first.clone());
        assert!(
            state.sendable(0).is_none(),
            "never send on an unconfirmed session"
        );
        assert!(state.awaits(&first));
        assert!(state.confirm().is_none());
        assert_eq!(indices(&state), [None, Some(1), None]);
        assert!(!state.awaits(&first));
        state.install(second.clone());
        assert_eq!(left(&state.install(session(3, false))), [2]);
        assert!(!state.awaits(&second), "a replaced next never comes back");
        assert_eq!(indices(&state), [None, Some(1), Some(3)]);
    }

    #[test]
    fn only_the_current_session_grows_too_old_to_listen() {
        const OLD: u64 = 170_000_000_000;
        let mut state = State::default();
        state.install(session(1, true));
        assert!(state.is_ageing_on_receive(OLD));
        assert!(!state.is_ageing_on_receive(OLD), "once a session");
        let key = || Secret::random().unwrap();
        state.install(session(2, true));
        state.install(Arc::new(Session::new(3, 103, &key(), &key(), true, OLD)));
        assert!(
            !state.is_ageing_on_receive(OLD),
            "session 2 is as old, but replaced"
        );
    }

    #[test]
    fn an_emptied_queue_gives_its_memory_back() {
        let mut state = State::default();
        for _ in 0..MAX_STAGED_PACKETS {
            state.stage(&[0]);
        }
        state.trim_staged();
        assert_eq!(state.staged.len(), MAX_STAGED_PACKETS);
        state.staged.clear();
        state.trim_staged();
        assert_eq!(state.staged.capacity(), 0);
    }

    #[test]
    fn staging_is_bounded_and_drops_the_oldest() {
        let mut state = State::default();
        state.stage_keepalive();
        for number in 0..MAX_STAGED_PACKETS as u8 {
            assert!(
                !state.stage(&[number]),
                "a keepalive that gives way is no packet lost"
            );
        }
        assert!(state.stage(&[255]));
        assert_eq!(state.staged.len(), MAX_STAGED_PACKETS);
        assert_eq!(state.staged.front().unwrap()[0], 1);
        state.stage_keepalive();
        assert_eq!(
            state.staged.len(),
            MAX_STAGED_PACKETS,
            "no keepalive while data waits"
        );
    }
}
