//! Plain UDP through a tunnel (or beside it): how many datagrams arrive a second, and how long one takes there and back.
//!
//! Each datagram begins with its number and the time it was sent, so that the receiver knows what it missed.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::args::{is_nobodys, Args, Json, Result};
use crate::pace::Pace;
use crate::sys::{set_buffers, CpuTime, Datagram, Receiver, Sender, BATCH};

/// Bytes of the number.
const HEAD: usize = 8;

fn bind(addr: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(addr).map_err(|error| format!("{addr}: {error}"))?;
    set_buffers(&socket, 4 << 20).map_err(|error| format!("the buffers of {addr}: {error}"))?;
    Ok(socket)
}

fn unbound(to: SocketAddr) -> Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).map_err(|error| format!("a socket: {error}"))?;
    set_buffers(&socket, 4 << 20).map_err(|error| format!("its buffers: {error}"))?;
    Ok(socket)
}

/// `udp` and `small`: `--to` sends datagrams of `size` bytes, `--at` receives and counts.
pub fn stream(mut args: Args, name: &str, size: usize) -> Result<()> {
    if let Some(at) = args.optional::<SocketAddr>("at")? {
        return receive(args, name, at);
    }
    let to = args.target("to")?;
    let size: usize = args.or("size", size)?;
    let rate = args.or("rate", 0)?;
    let duration = args.seconds()?;
    // One datagram a system call unless asked otherwise: what most programs do.
    let batch: usize = args.or("batch", 1)?;
    // So many addresses from that one on, `step` apart, each in its turn.
    let spread: u32 = args.or("spread", 1)?;
    let step: u32 = args.or("step", 1)?;
    args.finish()?;
    let targets = targets(to, spread, step)?;
    if !(HEAD..=65_000).contains(&size) || !(1..=BATCH).contains(&batch) {
        return Err(format!(
            "--size: from {HEAD} to 65000; --batch: from 1 to {BATCH}"
        ));
    }
    let socket = unbound(to)?;
    let mut senders: Vec<Sender> = targets
        .into_iter()
        .map(|to| Sender::new(&socket, to))
        .collect();
    let mut turn = 0;
    let mut buffers = vec![vec![0; size]; BATCH];
    let mut sent = 0_u64;
    let cpu = CpuTime::start();
    let mut pace = Pace::new(rate, duration);
    while let Some(due) = pace.due() {
        for (at, buffer) in buffers[..due].iter_mut().enumerate() {
            buffer[..HEAD].copy_from_slice(&(sent + at as u64).to_le_bytes());
        }
        let datagrams: Vec<Datagram> = buffers[..due]
            .iter()
            .map(|bytes| Datagram { bytes, from: None })
            .collect();
        for part in datagrams.chunks(batch) {
            turn = (turn + 1) % senders.len();
            let went = senders[turn]
                .send(part)
                .map_err(|error| format!("sending to {to}: {error}"))?;
            sent += went as u64;
            if went < part.len() {
                break; // what follows would carry wrong numbers
            }
        }
    }
    let elapsed = pace.elapsed().as_secs_f64();
    Json::default()
        .text("load", name)
        .count("sent", sent)
        .number("sent_per_second", sent as f64 / elapsed)
        .number(
            "sent_gbit_per_second",
            sent as f64 * size as f64 * 8e-9 / elapsed,
        )
        .number("seconds", elapsed)
        .number("cpu_seconds", cpu.seconds())
        .print();
    Ok(())
}

/// *count* addresses from *first* on, *step* apart; all of them must be nobody's.
fn targets(first: SocketAddr, count: u32, step: u32) -> Result<Vec<SocketAddr>> {
    if !(1..=65_536).contains(&count) {
        return Err("--spread: from 1 to 65536".to_owned());
    }
    let SocketAddr::V4(base) = first else {
        return if count == 1 {
            Ok(vec![first])
        } else {
            Err("--spread: only over IPv4".to_owned())
        };
    };
    let address = |index: u32| {
        let bits = index
            .checked_mul(step)
            .and_then(|offset| base.ip().to_bits().checked_add(offset))
            .ok_or("--spread: beyond the last address")?;
        let target = SocketAddr::from((Ipv4Addr::from_bits(bits), base.port()));
        if is_nobodys(target.ip()) {
            Ok(target)
        } else {
            Err(format!("--spread: {target} may be somebody's"))
        }
    };
    (0..count).map(address).collect()
}

/// Count from the first datagram until `--seconds` later or a second of silence.
fn receive(mut args: Args, name: &str, at: SocketAddr) -> Result<()> {
    let duration = args.seconds()?;
    let wait: f64 = args.or("wait", 30.0)?;
    args.finish()?;
    let socket = bind(at)?;
    let mut receiver = Receiver::new(&socket);
    eprintln!(
        "receiving at {}",
        socket.local_addr().map_err(|error| error.to_string())?
    );
    let deadline = Instant::now() + Duration::from_secs_f64(wait.clamp(0.0, 600.0));
    let (mut first, mut last): (Option<Instant>, Instant) = (None, Instant::now());
    let (mut delivered, mut bytes, mut late, mut highest) = (0_u64, 0_u64, 0_u64, 0_u64);
    let cpu = CpuTime::start();
    loop {
        let now = Instant::now();
        match first {
            None if now >= deadline => break,
            Some(first) if now >= first + duration || now >= last + Duration::from_secs(1) => break,
            _ => {}
        }
        for datagram in receiver
            .receive(Duration::from_millis(50))
            .map_err(|error| format!("receiving: {error}"))?
        {
            let Some(number) = datagram.first_chunk().map(|head| u64::from_le_bytes(*head)) else {
                continue;
            };
            first.get_or_insert(now);
            last = Instant::now();
            delivered += 1;
            bytes += datagram.len() as u64;
            late += u64::from(number < highest);
            highest = highest.max(number);
        }
    }
    let elapsed = first.map_or(f64::NAN, |first| (last - first).as_secs_f64());
    Json::default()
        .text("load", name)
        .count("delivered", delivered)
        .number("delivered_per_second", delivered as f64 / elapsed)
        .number("delivered_gbit_per_second", bytes as f64 * 8e-9 / elapsed)
        .number("lost_share", 1.0 - delivered as f64 / (highest + 1) as f64)
        .count("out_of_order", late)
        .number("seconds", elapsed)
        .number("cpu_seconds", cpu.seconds())
        .print();
    Ok(())
}

/// `--at` answers each datagram; `--to` sends `--rate` a second and reports how long the answers took.
pub fn rtt(mut args: Args) -> Result<()> {
    if let Some(at) = args.optional::<SocketAddr>("at")? {
        return echo(args, at);
    }
    let to = args.target("to")?;
    let size: usize = args.or("size", 64)?;
    let rate: u64 = args.or("rate", 100)?;
    let duration = args.seconds()?;
    args.finish()?;
    if !(HEAD..=1472).contains(&size) || rate == 0 {
        return Err(format!("--size: from {HEAD} to 1472; --rate: at least 1"));
    }
    let socket = unbound(to)?;
    let mut sender = Sender::new(&socket, to);
    let mut answers = Receiver::new(&socket);
    let mut sent_at: Vec<Instant> = Vec::new();
    let mut took: Vec<Option<u64>> = Vec::new();
    let start = Instant::now();
    let every = Duration::from_nanos(1_000_000_000 / rate);
    // A second for the last answers.
    while start.elapsed() < duration + Duration::from_secs(1) {
        let next = start + every * sent_at.len() as u32;
        if start.elapsed() < duration && Instant::now() >= next {
            let mut datagram = vec![0; size];
            datagram[..HEAD].copy_from_slice(&(sent_at.len() as u64).to_le_bytes());
            sent_at.push(Instant::now());
            took.push(None);
            sender
                .send(&[Datagram {
                    bytes: &datagram,
                    from: None,
                }])
                .map_err(|error| format!("sending to {to}: {error}"))?;
        }
        let patience = next
            .saturating_duration_since(Instant::now())
            .min(Duration::from_millis(20));
        for answer in answers
            .receive(patience)
            .map_err(|error| format!("receiving: {error}"))?
        {
            let number = answer
                .first_chunk()
                .map_or(u64::MAX, |head| u64::from_le_bytes(*head))
                as usize;
            if let Some(slot) = took.get_mut(number) {
                slot.get_or_insert(sent_at[number].elapsed().as_nanos() as u64);
            }
        }
    }
    let times: Vec<u64> = took.iter().flatten().copied().collect();
    Json::default()
        .text("load", "rtt")
        .count("sent", took.len() as u64)
        .count("answered", times.len() as u64)
        .times(times)
        .print();
    Ok(())
}

fn echo(mut args: Args, at: SocketAddr) -> Result<()> {
    let duration = args.seconds()?;
    args.finish()?;
    let socket = bind(at)?;
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .map_err(|error| error.to_string())?;
    eprintln!(
        "answering at {}",
        socket.local_addr().map_err(|error| error.to_string())?
    );
    let end = Instant::now() + duration;
    let mut buffer = [0; 2048];
    let mut answered = 0_u64;
    while Instant::now() < end {
        if let Ok((size, from)) = socket.recv_from(&mut buffer) {
            // An answer that cannot be sent is a lost one, which the other side counts.
            answered += u64::from(socket.send_to(&buffer[..size], from).is_ok());
        }
    }
    Json::default()
        .text("load", "rtt")
        .count("echoed", answered)
        .print();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_counted_and_nobodys() {
        let base: SocketAddr = "10.80.0.1:5201".parse().unwrap();
        let all = targets(base, 1000, 2).unwrap();
        assert_eq!(all.len(), 1000);
        assert_eq!(all[0], base);
        assert_eq!(all[999], "10.80.7.207:5201".parse().unwrap());
        assert!(targets(base, 0, 1).is_err());
        assert!(targets("10.255.255.255:1".parse().unwrap(), 2, 1).is_err());
        assert!(targets("255.255.255.255:1".parse().unwrap(), 2, 1).is_err());
        assert!(targets("[::1]:1".parse().unwrap(), 2, 1).is_err());
        assert_eq!(targets("[::1]:1".parse().unwrap(), 1, 1).unwrap().len(), 1);
    }
}
