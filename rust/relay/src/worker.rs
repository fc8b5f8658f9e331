//! The thread that carries frames, and the handle that owns it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::path::{Fate, Faults, Path};
use crate::sys;

/// Frames taken from one side before the other has its turn.
const BURST: usize = 256;
/// The largest frame that can be received: 64 KiB of IP and its Ethernet header.
const BUFFER_BYTES: usize = 65_536 + 14;

const LEFT: u64 = 1 << 0;
const RIGHT: u64 = 1 << 1;
const TIMER: u64 = 1 << 2;
const COMMAND: u64 = 1 << 3;

/// What happened to frames, both directions together; only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub lost: AtomicU64,
    pub reordered: AtomicU64,
    pub duplicated: AtomicU64,
    pub blocked: AtomicU64,
    pub oversize: AtomicU64,
    pub overflow: AtomicU64,
    pub send_failed: AtomicU64,
}

impl Counters {
    /// Names and values, every one of them.
    pub fn read(&self) -> [(&'static str, u64); 9] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("received", value(&self.received)),
            ("sent", value(&self.sent)),
            ("lost", value(&self.lost)),
            ("reordered", value(&self.reordered)),
            ("duplicated", value(&self.duplicated)),
            ("blocked", value(&self.blocked)),
            ("oversize", value(&self.oversize)),
            ("overflow", value(&self.overflow)),
            ("send_failed", value(&self.send_failed)),
        ]
    }

    fn count(&self, fate: Fate) {
        let one = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match fate {
            Fate::Carried { reordered, copies } => {
                if reordered {
                    one(&self.reordered);
                }
                if copies > 1 {
                    one(&self.duplicated);
                }
            }
            Fate::Lost => one(&self.lost),
            Fate::Blocked => one(&self.blocked),
            Fate::Oversize => one(&self.oversize),
            Fate::Overflow => one(&self.overflow),
        }
    }
}

struct Shared {
    counters: Counters,
    settings: Mutex<Faults>,
    ending: AtomicBool,
    command: OwnedFd,
}

/// Two interfaces joined; dropping it ends its thread.
pub struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Join *left* and *right*, interfaces of the calling thread's network namespace, without faults.
    ///
    /// # Errors
    /// What the system said, and of which interface or step.
    pub fn new(left: &str, right: &str, seed: u64) -> Result<Self, (io::Error, String)> {
        let open = |name: &str| sys::open_packet(name).map_err(|error| (error, name.to_owned()));
        let step = |name: &'static str| move |error| (error, name.to_owned());
        let sides = [open(left)?, open(right)?];
        let timer = sys::timerfd().map_err(step("timerfd_create"))?;
        let command = sys::eventfd().map_err(step("eventfd"))?;
        let epoll = sys::epoll(&[&sides[0], &sides[1], &timer, &command]).map_err(step("epoll"))?;
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            settings: Mutex::new(Faults::default()),
            ending: AtomicBool::new(false),
            command,
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            sides,
            timer,
            epoll,
            paths: [Path::new(seed, 0), Path::new(seed, 1)],
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        };
        let thread = std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || worker.run())
            .map_err(step("thread"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The same faults both ways, from now on.
    pub fn configure(&self, faults: Faults) -> io::Result<()> {
        *self
            .shared
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = faults;
        sys::wake(&self.shared.command)
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// End the thread; frames in flight are gone. Idempotent.
    pub fn close(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A counter that is already at its maximum is readable too, so the thread wakes in any case.
            let _ = sys::wake(&self.shared.command);
            let _ = thread.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close();
    }
}

struct Worker {
    shared: Arc<Shared>,
    sides: [OwnedFd; 2],
    timer: OwnedFd,
    epoll: OwnedFd,
    paths: [Path; 2],
    buffer: Box<[u8]>,
}

impl Worker {
    /// Until told to end, or until epoll itself fails (which it does only on a mistake of ours).
    fn run(mut self) {
        while let Ok(ready) = sys::wait(&self.epoll) {
            if ready & COMMAND != 0 {
                sys::acknowledge(&self.shared.command);
                if self.shared.ending.load(Ordering::Acquire) {
                    return;
                }
                let faults = self
                    .shared
                    .settings
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                self.paths[0].configure(faults.clone());
                self.paths[1].configure(faults);
            }
            if ready & TIMER != 0 {
                sys::acknowledge(&self.timer);
            }
            let now_ns = sys::now_ns();
            if ready & LEFT != 0 {
                self.take(0, now_ns);
            }
            if ready & RIGHT != 0 {
                self.take(1, now_ns);
            }
            self.give(0);
            self.give(1);
            let due = self.paths.iter().filter_map(Path::next_due_ns).min();
            if sys::set_timer(&self.timer, due).is_err() {
                return;
            }
        }
    }

    /// Receive from *side* into its path.
    fn take(&mut self, side: usize, now_ns: u64) {
        for _ in 0..BURST {
            // An interface that is down for now says so once; frames come again when it is up.
            let Ok(Some(size)) = sys::receive(&self.sides[side], &mut self.buffer) else {
                return;
            };
            self.shared
                .counters
                .received
                .fetch_add(1, Ordering::Relaxed);
            let fate = match self.buffer.get(..size) {
                Some(frame) => self.paths[side].arrive(now_ns, frame),
                None => Fate::Oversize,
            };
            self.shared.counters.count(fate);
        }
    }

    /// Send what is due from *side*'s path out of the other side.
    fn give(&mut self, side: usize) {
        let now_ns = sys::now_ns();
        while let Some(frame) = self.paths[side].pop(now_ns) {
            let counters = &self.shared.counters;
            match sys::send(&self.sides[1 - side], &frame) {
                Ok(()) => counters.sent.fetch_add(1, Ordering::Relaxed),
                Err(_) => counters.send_failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    }
}
