//! Measures one way to send and one way to receive packets of IP protocol 47, between two network namespaces.
//!
//! Two threads, each in its namespace and on its core. In a *closed loop* (`--window N`) at most N packets are on the way, so that nothing is
//! lost and batches form as they do under a window of TCP; with `--window 0` the sender does not wait and losses show what the
//! receiver cannot take; with `--window 1 --batch 1` one packet at a time goes there, and its time is that of a lone packet.
//!
//! What counts is the processor time of both threads by packet received: on a veth pair the receiving side's work up to the
//! socket runs in the sender's system call, so neither half alone says anything. The time of the kernel's own softirq threads is
//! told beside it (`--softirq PID,PID`), since they may take over a part.
//!
//! One JSON object on stdout; mistakes, and what the kernel refuses, on stderr with exit code 2.

mod args;
mod frame;
mod sys;

use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use args::Args;
use frame::{Ends, Frames};
use sys::{open_receiver, open_sender, Receiver, ThreadClock};

const HELP: &str = "\
ginnel-underlay --name value ...

  --send      raw | raw-plain | packet | packet-bypass | ring | ring-bypass | xdp | udp (UDP_SEGMENT, to compare)
  --receive   raw | packet | ring2 | ring3 | xdp-generic | xdp-native | udp
  --left PATH --right PATH          network namespaces of sender and receiver
  --left-device NAME --right-device NAME
  --from ADDR --to ADDR             IPv4, private or documentation
  --from-mac MAC --to-mac MAC
  --size 1500                       bytes of a packet, its IP header included
  --window 512 --batch 64 --seconds 2
  --nap 0                           the receiver sleeps so many microseconds instead of until the next packet
  --softirq PID,PID                 the kernel's softirq threads, to be counted as well";

/// How long the sender waits for the window to open before it takes what is missing for lost.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long after the last packet the receiver takes naps.
const BUSY: Duration = Duration::from_millis(1);
/// How long the receiver goes on when the sender has ended.
const LINGER: Duration = Duration::from_millis(100);

/// What both threads see.
#[derive(Default)]
struct Line {
    received: AtomicU64,
    /// Packets whose number was not the one after the last: lost before it, or overwritten while they waited.
    out_of_order: AtomicU64,
    foreign: AtomicU64,
    waiting: AtomicBool,
    receiver_ready: AtomicBool,
    ended: AtomicBool,
}

struct Load {
    window: u64,
    batch: usize,
    duration: Duration,
    /// While packets keep coming, sleep this long instead of until the next one: fewer wakings, fuller batches.
    nap: Duration,
}

struct Sent {
    packets: u64,
    lost: u64,
    calls: u64,
    cpu_ns: u64,
    elapsed: Duration,
}

struct Got {
    wakes: u64,
    cpu_ns: u64,
}

/// Sends until the time is over, at most `window` packets ahead of the receiver.
fn send_all(
    sender: &mut dyn sys::Sender,
    frames: &Frames,
    load: &Load,
    line: &Line,
) -> io::Result<Sent> {
    let start = Instant::now();
    let clock = ThreadClock::start();
    let (mut sent, mut lost, mut calls) = (0_u64, 0_u64, 0_u64);
    while start.elapsed() < load.duration {
        let mut count = load.batch;
        if load.window > 0 {
            let under_way = (sent - lost).saturating_sub(line.received.load(Ordering::Acquire));
            let room = load.window.saturating_sub(under_way);
            if room < load.batch as u64 {
                if !wait_for_room(sent - lost, load, line) {
                    lost = sent - line.received.load(Ordering::Acquire).min(sent);
                }
                continue;
            }
            count = count.min(room as usize);
        }
        let went = sender.send(frames, sent, count)?;
        calls += 1;
        sent += went as u64;
    }
    Ok(Sent {
        packets: sent,
        lost,
        calls,
        cpu_ns: clock.passed_ns(),
        elapsed: start.elapsed(),
    })
}

/// Sleeps until a batch fits into the window again; false when that takes too long.
fn wait_for_room(accounted: u64, load: &Load, line: &Line) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let enough = (accounted + load.batch as u64).saturating_sub(load.window);
    line.waiting.store(true, Ordering::SeqCst);
    while line.received.load(Ordering::SeqCst) < enough {
        let now = Instant::now();
        if now >= deadline {
            line.waiting.store(false, Ordering::SeqCst);
            return false;
        }
        thread::park_timeout(deadline - now);
    }
    line.waiting.store(false, Ordering::SeqCst);
    true
}

fn receive_all(
    receiver: &mut dyn Receiver,
    line: &Line,
    load: &Load,
    sender: &Thread,
) -> io::Result<Got> {
    let clock = ThreadClock::start();
    line.receiver_ready.store(true, Ordering::Release);
    let (mut wakes, mut next) = (0_u64, 0_u64);
    let mut last = Instant::now();
    loop {
        let (mut count, mut strange, mut jumps) = (0_u64, 0_u64, 0_u64);
        receiver.receive(&mut |packet| match frame::number(packet) {
            Some(number) => {
                count += 1;
                jumps += u64::from(number != next);
                next = number + 1;
            }
            None => strange += 1,
        })?;
        line.foreign.fetch_add(strange, Ordering::Relaxed);
        line.out_of_order.fetch_add(jumps, Ordering::Relaxed);
        if count > 0 {
            line.received.fetch_add(count, Ordering::SeqCst);
            // Woken when half the window is free, not for each packet: as a device's queue would.
            let few = load.window == 1 || count as usize >= load.batch / 2;
            if few && line.waiting.swap(false, Ordering::SeqCst) {
                sender.unpark();
            }
            last = Instant::now();
            continue;
        }
        if line.waiting.load(Ordering::SeqCst) {
            sender.unpark();
        }
        if line.ended.load(Ordering::Acquire) && last.elapsed() > LINGER {
            break;
        }
        if !load.nap.is_zero() && last.elapsed() < BUSY {
            thread::sleep(load.nap);
            wakes += 1;
            continue;
        }
        wakes += u64::from(sys::readable(receiver.fd(), Duration::from_millis(20))?);
    }
    Ok(Got {
        wakes,
        cpu_ns: clock.passed_ns(),
    })
}

fn run(mut args: Args) -> Result<String, String> {
    let send: String = args.required("send")?;
    let receive: String = args.required("receive")?;
    let (left, right): (String, String) = (args.required("left")?, args.required("right")?);
    let left_device: String = args.required("left-device")?;
    let right_device: String = args.required("right-device")?;
    let ends = Ends {
        from: nobodys(args.required("from")?)?,
        to: nobodys(args.required("to")?)?,
        from_mac: frame::mac(&args.required::<String>("from-mac")?)?,
        to_mac: frame::mac(&args.required::<String>("to-mac")?)?,
    };
    let size: usize = args.or("size", 1500)?;
    let load = Load {
        window: args.or("window", 512)?,
        batch: args.or("batch", sys::BATCH)?,
        duration: Duration::from_secs_f64(args.or("seconds", 2.0_f64)?.clamp(0.0, 10.0)),
        nap: Duration::from_micros(args.or("nap", 0)?),
    };
    let softirq = args.or("softirq", String::new())?;
    args.finish()?;
    if !(frame::MIN_SIZE..=1500).contains(&size) || !(1..=sys::BATCH).contains(&load.batch) {
        return Err(format!(
            "--size: from {} to 1500; --batch: from 1 to {}",
            frame::MIN_SIZE,
            sys::BATCH
        ));
    }
    let line = Line::default();
    let before_ns = softirq_ns(&softirq)?;
    let said = |what: &str, error: io::Error| format!("{what}: {error}");
    let (sent, got) = thread::scope(|scope| -> Result<(Sent, Got), String> {
        let main = thread::current();
        let (receive, right, right_device) = (&receive, &right, &right_device);
        let (line, load, ends) = (&line, &load, &ends);
        let receiver = scope.spawn(move || -> Result<Got, String> {
            sys::enter(right).map_err(|error| said(right, error))?;
            sys::pin(1).map_err(|error| said("core 1", error))?;
            sys::exact_timers().map_err(|error| said("timer slack", error))?;
            let mut receiver = open_receiver(receive, right_device, ends.to)
                .map_err(|error| said(receive, error))?;
            receive_all(&mut *receiver, line, load, &main).map_err(|error| said("receiving", error))
        });
        let sending = (|| {
            sys::enter(&left).map_err(|error| said(&left, error))?;
            sys::pin(0).map_err(|error| said("core 0", error))?;
            let frames = Frames::new(ends, size);
            let mut sender =
                open_sender(&send, &left_device, ends.to).map_err(|error| said(&send, error))?;
            let deadline = Instant::now() + Duration::from_secs(5);
            while !line.receiver_ready.load(Ordering::Acquire) {
                if receiver.is_finished() || Instant::now() > deadline {
                    return Ok(None);
                }
                thread::yield_now();
            }
            send_all(&mut *sender, &frames, load, line)
                .map(Some)
                .map_err(|error| said("sending", error))
        })();
        line.ended.store(true, Ordering::Release);
        let got = receiver
            .join()
            .map_err(|_| "the receiver ended badly".to_owned())??;
        match sending? {
            Some(sent) => Ok((sent, got)),
            None => Err("the receiver did not start".to_owned()),
        }
    })?;
    let softirq_ns = softirq_ns(&softirq)? - before_ns;
    let received = line.received.load(Ordering::Relaxed);
    let each = |ns: u64| ns as f64 / received.max(1) as f64;
    Ok(format!(
        "{{\"send\": \"{send}\", \"receive\": \"{receive}\", \"size\": {size}, \"window\": {}, \"sent\": {}, \"received\": {received}, \
         \"lost\": {}, \"given_up\": {}, \"out_of_order\": {}, \"foreign\": {}, \"seconds\": {:.3}, \"packets_per_second\": {:.0}, \
         \"send_ns\": {:.1}, \"receive_ns\": {:.1}, \"softirq_ns\": {:.1}, \"both_ns\": {:.1}, \"packets_per_send\": {:.1}, \
         \"packets_per_wake\": {:.1}}}",
        load.window,
        sent.packets,
        sent.packets.saturating_sub(received),
        sent.lost,
        line.out_of_order.load(Ordering::Relaxed),
        line.foreign.load(Ordering::Relaxed),
        sent.elapsed.as_secs_f64(),
        received as f64 / sent.elapsed.as_secs_f64(),
        each(sent.cpu_ns),
        each(got.cpu_ns),
        each(softirq_ns),
        each(sent.cpu_ns + got.cpu_ns + softirq_ns),
        sent.packets as f64 / sent.calls.max(1) as f64,
        received as f64 / got.wakes.max(1) as f64,
    ))
}

/// Processor time of the threads named by their ids, which is the first figure of /proc/ID/schedstat.
fn softirq_ns(ids: &str) -> Result<u64, String> {
    ids.split(',')
        .filter(|id| !id.is_empty())
        .map(|id| {
            let path = format!("/proc/{id}/schedstat");
            std::fs::read_to_string(&path)
                .ok()
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .ok_or(format!("{path} does not say how long {id} ran"))
        })
        .sum()
}

/// Only addresses that are no stranger's.
fn nobodys(addr: Ipv4Addr) -> Result<Ipv4Addr, String> {
    if addr.is_private() || addr.is_documentation() {
        Ok(addr)
    } else {
        Err(format!(
            "{addr} may be somebody's; only private and documentation addresses are allowed"
        ))
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() || matches!(words[0].as_str(), "help" | "--help" | "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Args::parse(words.into_iter()).and_then(run) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            eprintln!("ginnel-underlay: {mistake}");
            ExitCode::from(2)
        }
    }
}
