//! Floods: what a stranger can send to a WireGuard port without knowing anybody's private key.
//!
//! Messages are made before the clock starts (a pool that is sent around and around), so that what is measured is the
//! victim. No answer is honoured; they are counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::args::{Args, Json, Result};
use crate::noise::{Responder, COOKIE_REPLY_SIZE, INITIATION_SIZE, RESPONSE_SIZE};
use crate::pace::Pace;
use crate::random::Random;
use crate::sys::{set_buffers, CpuTime, Datagram, Receiver, Sender, BATCH};

/// Distinct messages in the pool.
const POOL: usize = 4096;
/// Most source addresses: a /16.
const MAX_SOURCES: u32 = 65_536;

/// Where to, how fast, and from where.
pub struct Aim {
    pub to: SocketAddr,
    pub rate: u64,
    pub duration: Duration,
    /// The local addresses to send from; empty = the system's choice.
    pub sources: Vec<IpAddr>,
}

impl Aim {
    pub fn from_args(args: &mut Args) -> Result<Self> {
        let to = args.target("to")?;
        let rate = args.or("rate", 10_000)?;
        let duration = args.seconds()?;
        let base: Option<IpAddr> = args.optional("bind")?;
        let count: u32 = args.or("sources", 1)?;
        if count == 0 || count > MAX_SOURCES {
            return Err(format!("--sources: from 1 to {MAX_SOURCES}"));
        }
        let sources = match base {
            None if count == 1 => Vec::new(),
            None => return Err("--sources needs --bind, the first local address".to_owned()),
            Some(base) => (0..count).map(|n| nth(base, n)).collect(),
        };
        Ok(Self {
            to,
            rate,
            duration,
            sources,
        })
    }

    /// A socket that can send from all sources.
    pub fn socket(&self) -> Result<UdpSocket> {
        let any: IpAddr = if self.to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).map_err(|error| format!("a socket: {error}"))?;
        set_buffers(&socket, 4 << 20).map_err(|error| format!("its buffers: {error}"))?;
        Ok(socket)
    }
}

fn nth(base: IpAddr, n: u32) -> IpAddr {
    match base {
        IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits().wrapping_add(n)).into(),
        // Each in a /64 of its own: within one they would be one source.
        IpAddr::V6(base) => {
            Ipv6Addr::from_bits(base.to_bits().wrapping_add(u128::from(n) << 64)).into()
        }
    }
}

/// Random bytes of `--size` (default 148): what no WireGuard message looks like.
pub fn junk(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    let size: usize = args.or("size", INITIATION_SIZE)?;
    if size > 1472 {
        return Err("--size: at most 1472".to_owned());
    }
    args.finish()?;
    let mut random = Random::new(1);
    flood("junk", &aim, &pool(|| random.bytes(size)))
}

/// Initiations whose mac1 is wrong.
pub fn badmac1(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    args.finish()?;
    let mut random = Random::new(2);
    flood(
        "badmac1",
        &aim,
        &pool(|| message(1, INITIATION_SIZE, &mut random)),
    )
}

/// Initiations with a valid mac1, which anybody can make who knows the public key, and random bytes within.
///
/// `--mac2 random` puts random bytes where a cookie's mac would be, instead of zeros.
pub fn initiations(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    let responder = Responder::new(args.key("key")?);
    let mac2: String = args.or("mac2", "zero".to_owned())?;
    let zero_mac2 = match mac2.as_str() {
        "zero" => true,
        "random" => false,
        _ => return Err("--mac2: zero or random".to_owned()),
    };
    args.finish()?;
    let mut random = Random::new(3);
    let pool = pool(|| {
        let mut msg = message(1, INITIATION_SIZE, &mut random);
        responder.set_mac1(&mut msg);
        if zero_mac2 {
            msg[INITIATION_SIZE - 16..].fill(0);
        }
        msg
    });
    flood("initiations", &aim, &pool)
}

/// Data messages of `--size` bytes of ciphertext and tag for sessions that do not exist.
pub fn unknown_index(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    let size: usize = args.or("size", 16)?;
    if !(16..=1440).contains(&size) {
        return Err("--size: from 16 to 1440".to_owned());
    }
    args.finish()?;
    let mut random = Random::new(4);
    flood(
        "unknown-index",
        &aim,
        &pool(|| message(4, 16 + size, &mut random)),
    )
}

/// `--message HEX`, its first `--vary` bytes other ones each time: anybody's first message of another protocol.
pub fn template(mut args: Args) -> Result<()> {
    let aim = Aim::from_args(&mut args)?;
    let text: String = args.required("message")?;
    let vary: usize = args.or("vary", 8)?;
    args.finish()?;
    let message = hexadecimal(&text)
        .filter(|message| vary <= message.len() && message.len() <= 1472)
        .ok_or("--message: hexadecimal, at most 1472 bytes and at least --vary")?;
    let mut random = Random::new(5);
    flood(
        "template",
        &aim,
        &pool(|| [&random.bytes(vary), &message[vary..]].concat()),
    )
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn pool(mut make: impl FnMut() -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..POOL).map(|_| make()).collect()
}

fn message(kind: u8, size: usize, random: &mut Random) -> Vec<u8> {
    let mut msg = random.bytes(size);
    msg[..4].copy_from_slice(&[kind, 0, 0, 0]);
    msg
}

fn flood(name: &str, aim: &Aim, pool: &[Vec<u8>]) -> Result<()> {
    let socket = aim.socket()?;
    let mut sender = Sender::new(&socket, aim.to);
    let mut answers = Receiver::new(&socket);
    let (mut sent, mut cookies, mut responses) = (0_u64, 0, 0);
    let cpu = CpuTime::start();
    let mut pace = Pace::new(aim.rate, aim.duration);
    while let Some(count) = pace.due() {
        let batch: [Datagram; BATCH] = std::array::from_fn(|at| {
            let number = sent as usize + at;
            Datagram {
                bytes: &pool[number % pool.len()],
                from: aim.sources.get(number % aim.sources.len().max(1)).copied(),
            }
        });
        sent += sender
            .send(&batch[..count])
            .map_err(|error| format!("sending to {}: {error}", aim.to))? as u64;
        for answer in answers
            .receive(Duration::ZERO)
            .map_err(|error| format!("receiving: {error}"))?
        {
            match (answer.first(), answer.len()) {
                (Some(3), COOKIE_REPLY_SIZE) => cookies += 1,
                (Some(2), RESPONSE_SIZE) => responses += 1,
                _ => {}
            }
        }
    }
    let elapsed = pace.elapsed().as_secs_f64();
    Json::default()
        .text("load", name)
        .count("sent", sent)
        .number("sent_per_second", sent as f64 / elapsed)
        .number("asked_per_second", aim.rate as f64)
        .count("sources", aim.sources.len().max(1) as u64)
        .count("cookies", cookies)
        .count("responses", responses)
        .number("seconds", elapsed)
        .number("cpu_seconds", cpu.seconds())
        .print();
    Ok(())
}
