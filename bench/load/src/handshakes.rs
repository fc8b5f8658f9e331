//! Genuine handshakes: of many peers at once, and of newcomers one by one. And the configuration that makes them peers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

use crate::args::{Args, Json, Result};
use crate::attack::Aim;
use crate::noise::{
    hash, keys, mac, tai64n, Peer, Pending, Responder, COOKIE_REPLY_SIZE, INITIATION_SIZE,
    RESPONSE_SIZE,
};
use crate::pace::Pace;
use crate::random::Random;
use crate::sys::{CpuTime, Datagram, Receiver, Sender, BATCH};

/// Peers of one configuration: one /32 of 10.64.0.0/10 each.
const MAX_PEERS: u32 = 1 << 20;
/// Messages made before the clock starts.
const MAX_PREPARED: u64 = 2_000_000;
/// How long answers are waited for after the last message.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of the responses, one in so many is authenticated in full (three DH each); the others are counted by index.
const VERIFY_ONE_IN: usize = 50;
/// The protocol's retry.
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);

fn peers_from(args: &mut Args) -> Result<(String, u32, u32)> {
    let seed: String = args.or("seed", "bench".to_owned())?;
    let first: u32 = args.or("first", 0)?;
    let count: u32 = args.or("peers", 1000)?;
    if count == 0 || first.saturating_add(count) > MAX_PEERS {
        return Err(format!("--first and --peers: at most {MAX_PEERS} in all"));
    }
    Ok((seed, first, count))
}

/// `[Peer]` sections for `wg addconf` (`wg setconf` when --private-key-file names a file to quote a key from).
pub fn keys_file(mut args: Args) -> Result<()> {
    let (seed, first, count) = peers_from(&mut args)?;
    let private: Option<String> = args.optional("private-key-file")?;
    let port: Option<u16> = args.optional("port")?;
    let keepalive: Option<u16> = args.optional("keepalive")?;
    args.finish()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let write = |out: &mut dyn std::io::Write| -> std::io::Result<()> {
        if private.is_some() || port.is_some() {
            writeln!(out, "[Interface]")?;
        }
        if let Some(path) = &private {
            writeln!(
                out,
                "PrivateKey = {}",
                std::fs::read_to_string(path)?.trim()
            )?;
        }
        if let Some(port) = port {
            writeln!(out, "ListenPort = {port}")?;
        }
        for number in first..first + count {
            let (_, public) = keys(&seed, number);
            let addr = std::net::Ipv4Addr::from_bits(0x0a40_0000 + number);
            writeln!(
                out,
                "\n[Peer]\nPublicKey = {}\nAllowedIPs = {addr}/32",
                BASE64.encode(public)
            )?;
            if let Some(seconds) = keepalive {
                writeln!(out, "PersistentKeepalive = {seconds}")?;
            }
        }
        out.flush()
    };
    write(&mut out).map_err(|error| format!("writing the configuration: {error}"))
}

/// Timestamps that rise from one message of a peer to the next, whatever the clock's granularity on the other side.
fn timestamp(round: u64) -> [u8; 12] {
    // A responder wants each later than the last; whitened implementations look at 16.8 ms steps.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    tai64n(now + Duration::from_millis(50) * round as u32)
}

/// Initiations of `--peers` distinct peers at `--rate`, each made in advance; cookies are counted and not honoured.
pub fn handshakes(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    let responder = Responder::new(args.key("key")?);
    let (seed, first, count) = peers_from(&mut args)?;
    args.finish()?;
    let wanted = aim.rate * aim.duration.as_millis() as u64 / 1000;
    if aim.rate == 0 || wanted > MAX_PREPARED {
        return Err(format!(
            "--rate and --seconds: at most {MAX_PREPARED} messages, and a rate"
        ));
    }
    let mut random = Random::new(5);
    let peers: Vec<Peer> = (first..first + count)
        .map(|number| Peer::new(&seed, number, &responder))
        .collect();
    let mut prepared: Vec<([u8; INITIATION_SIZE], Option<Pending>)> =
        Vec::with_capacity(wanted as usize);
    for number in 0..wanted {
        let peer = &peers[number as usize % peers.len()];
        let (msg, pending) = peer.initiate(
            &responder,
            number as u32,
            timestamp(number / peers.len() as u64),
            random.array(),
        );
        prepared.push((
            msg,
            (number as usize)
                .is_multiple_of(VERIFY_ONE_IN)
                .then_some(pending),
        ));
    }
    let socket = aim.socket()?;
    let mut sender = Sender::new(&socket, aim.to);
    let mut answers = Receiver::new(&socket);
    let mut tally = Tally {
        answered_at: vec![None; prepared.len()],
        ..Tally::default()
    };
    let mut sent_at = vec![None; prepared.len()];
    let cpu = CpuTime::start();
    let mut sent = 0;
    let mut pace = Pace::new(aim.rate, aim.duration);
    while let Some(due) = pace.due() {
        let due = due.min(prepared.len() - sent);
        if due == 0 {
            break;
        }
        let batch: [Datagram; BATCH] = std::array::from_fn(|at| {
            let number = (sent + at).min(prepared.len() - 1);
            Datagram {
                bytes: &prepared[number].0,
                from: aim.sources.get(number % aim.sources.len().max(1)).copied(),
            }
        });
        let at = Instant::now();
        let went = sender
            .send(&batch[..due])
            .map_err(|error| format!("sending to {}: {error}", aim.to))?;
        sent_at[sent..sent + went].fill(Some(at));
        sent += went;
        tally.take(&mut answers, Duration::ZERO, &peers, &prepared)?;
    }
    let elapsed = pace.elapsed().as_secs_f64();
    let quiet = Instant::now() + PATIENCE;
    while Instant::now() < quiet {
        tally.take(&mut answers, Duration::from_millis(20), &peers, &prepared)?;
    }
    let answered = tally.answered_at.iter().flatten().count() as u64;
    let in_time: Vec<u64> = tally
        .answered_at
        .iter()
        .zip(&sent_at)
        .filter_map(|(at, sent)| Some(at.as_ref()?.duration_since((*sent)?).as_nanos() as u64))
        .collect();
    Json::default()
        .text("load", "handshakes")
        .count("sent", sent as u64)
        .number("sent_per_second", sent as f64 / elapsed)
        .count("peers", count.into())
        .count("answered", answered)
        .number("answered_per_second", answered as f64 / elapsed)
        .number("answered_share", answered as f64 / sent as f64)
        .count("authenticated", tally.authenticated)
        .count("false_responses", tally.false_responses)
        .count("cookies", tally.cookies)
        .times(in_time)
        .number("seconds", elapsed)
        .number("cpu_seconds", cpu.seconds())
        .print();
    Ok(())
}

#[derive(Default)]
struct Tally {
    /// By number of the initiation.
    answered_at: Vec<Option<Instant>>,
    cookies: u64,
    authenticated: u64,
    false_responses: u64,
}

impl Tally {
    fn take(
        &mut self,
        answers: &mut Receiver,
        patience: Duration,
        peers: &[Peer],
        prepared: &[([u8; INITIATION_SIZE], Option<Pending>)],
    ) -> Result<()> {
        for msg in answers
            .receive(patience)
            .map_err(|error| format!("receiving: {error}"))?
        {
            match (msg.first(), msg.len()) {
                (Some(3), COOKIE_REPLY_SIZE) => self.cookies += 1,
                (Some(2), RESPONSE_SIZE) => {
                    let number = u32::from_le_bytes([msg[8], msg[9], msg[10], msg[11]]) as usize;
                    match prepared.get(number) {
                        Some((_, Some(pending)))
                            if !peers[number % peers.len()].accepts(pending, msg) =>
                        {
                            self.false_responses += 1;
                        }
                        Some((_, pending)) => {
                            self.authenticated += u64::from(pending.is_some());
                            self.answered_at[number].get_or_insert_with(Instant::now);
                        }
                        None => self.false_responses += 1,
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Peers that were never seen, one after the other: how long until each is answered, with the protocol's retries and cookies.
pub fn newcomers(mut args: Args) -> Result<()> {
    let mut aim = Aim::from_args(&mut args)?;
    let responder_key = args.key("key")?;
    let (seed, first, count) = peers_from(&mut args)?;
    let attempts: u32 = args.or("attempts", 3)?;
    args.finish()?;
    // All are in flight together: one retry of one must not hold up the next.
    let responder = Responder::new(responder_key);
    let cookie_key = hash(&[b"cookie--", &responder_key]);
    let socket = aim.socket()?;
    let mut sender = Sender::new(&socket, aim.to);
    let mut answers = Receiver::new(&socket);
    let mut random = Random::new(6);
    let mut waiting: HashMap<u32, Newcomer> = HashMap::new();
    let mut done: Vec<u64> = Vec::new();
    let (mut cookies, mut retries, mut given_up) = (0, 0, 0);
    aim.rate = aim.rate.clamp(1, 1000);
    let every = Duration::from_nanos(1_000_000_000 / aim.rate);
    let start = Instant::now();
    let mut started = 0;
    let last = start + every * count + (REKEY_TIMEOUT + Duration::from_secs(1)) * attempts;
    while Instant::now() < last && (started < count || !waiting.is_empty()) {
        let now = Instant::now();
        while started < count && now >= start + every * started {
            let peer = Peer::new(&seed, first + started, &responder);
            let from = aim
                .sources
                .get(started as usize % aim.sources.len().max(1))
                .copied();
            waiting.insert(
                started,
                Newcomer {
                    peer,
                    from,
                    since: Instant::now(),
                    next: now,
                    tried: 0,
                    sent: None,
                    cookie: None,
                },
            );
            started += 1;
        }
        for (&index, newcomer) in &mut waiting {
            if newcomer.next <= Instant::now() && newcomer.tried < attempts {
                newcomer
                    .send(index, &responder, &mut sender, &mut random)
                    .map_err(|error| format!("sending to {}: {error}", aim.to))?;
                retries += u64::from(newcomer.tried > 1);
            }
        }
        let overdue = waiting.len();
        waiting.retain(|_, newcomer| newcomer.tried < attempts || newcomer.next > Instant::now());
        given_up += overdue - waiting.len();
        for msg in answers
            .receive(Duration::from_millis(1))
            .map_err(|error| format!("receiving: {error}"))?
        {
            match (msg.first(), msg.len()) {
                (Some(3), COOKIE_REPLY_SIZE) => {
                    let index = u32::from_le_bytes([msg[4], msg[5], msg[6], msg[7]]);
                    if let Some(newcomer) = waiting.get_mut(&index) {
                        cookies += u64::from(newcomer.take_cookie(&cookie_key, msg));
                    }
                }
                (Some(2), RESPONSE_SIZE) => {
                    let index = u32::from_le_bytes([msg[8], msg[9], msg[10], msg[11]]);
                    if waiting
                        .get(&index)
                        .is_some_and(|newcomer| newcomer.is_answered_by(msg))
                    {
                        done.extend(
                            waiting
                                .remove(&index)
                                .map(|newcomer| newcomer.since.elapsed().as_nanos() as u64),
                        );
                    }
                }
                _ => {}
            }
        }
    }
    Json::default()
        .text("load", "newcomers")
        .count("peers", started.into())
        .count("answered", done.len() as u64)
        .count("given_up", (given_up + waiting.len()) as u64)
        .count("cookies", cookies)
        .count("retries", retries)
        .times(done)
        .number("seconds", start.elapsed().as_secs_f64())
        .print();
    Ok(())
}

/// A peer on its way in.
struct Newcomer {
    peer: Peer,
    from: Option<IpAddr>,
    since: Instant,
    next: Instant,
    tried: u32,
    sent: Option<([u8; INITIATION_SIZE], Pending)>,
    cookie: Option<[u8; 16]>,
}

impl Newcomer {
    fn send(
        &mut self,
        index: u32,
        responder: &Responder,
        sender: &mut Sender,
        random: &mut Random,
    ) -> std::io::Result<()> {
        let (mut msg, pending) = self
            .peer
            .initiate(responder, index, timestamp(0), random.array());
        if let Some(cookie) = self.cookie {
            let mac2 = mac(&cookie, &msg[..INITIATION_SIZE - 16]);
            msg[INITIATION_SIZE - 16..].copy_from_slice(&mac2);
        }
        self.tried += 1;
        // The retry is 5 s later and up to a third of a second.
        self.next = Instant::now() + REKEY_TIMEOUT + Duration::from_millis(random.next() % 334);
        sender.send(&[Datagram {
            bytes: &msg,
            from: self.from,
        }])?;
        self.sent = Some((msg, pending));
        Ok(())
    }

    fn take_cookie(&mut self, key: &[u8; 32], msg: &[u8]) -> bool {
        let Some((sent, _)) = &self.sent else {
            return false;
        };
        let mac1 = &sent[INITIATION_SIZE - 32..INITIATION_SIZE - 16];
        let payload = Payload {
            msg: &msg[32..],
            aad: mac1,
        };
        let opened = XChaCha20Poly1305::new(key.into())
            .decrypt(msg[8..32].into(), payload)
            .ok();
        self.cookie = opened
            .and_then(|cookie| cookie.try_into().ok())
            .or(self.cookie);
        self.cookie.is_some()
    }

    fn is_answered_by(&self, msg: &[u8]) -> bool {
        self.sent
            .as_ref()
            .is_some_and(|(_, pending)| self.peer.accepts(pending, msg))
    }
}
