//! Attackers and generators for measuring a WireGuard implementation and for trying its floods.
//!
//! One process, one load, bounded by `--seconds` and `--rate`, and only against loopback, private and documentation
//! addresses. One JSON object on stdout; mistakes on stderr with exit code 2.

mod args;
mod attack;
mod handshakes;
mod noise;
mod pace;
mod plain;
mod random;
mod sys;

use std::process::ExitCode;

use args::{Args, Result};

const HELP: &str = "\
ginnel-load LOAD --name value ...

floods          --to ADDR:PORT [--rate N] [--seconds S] [--bind ADDR [--sources N]]
  junk          random bytes                     [--size 148]
  badmac1       initiations with a wrong mac1
  initiations   with a valid mac1, forged within  --key PUBLIC [--mac2 zero|random]
  unknown-index data for no session              [--size 16]
  template      a message of any protocol        --message HEX [--vary 8: so many first bytes are random]
genuine peers   --to ADDR:PORT --key PUBLIC [--peers N] [--first N] [--seed TEXT] [--rate N] [--bind ADDR [--sources N]]
  handshakes    of N peers, answers counted      [--seconds S]
  newcomers     one by one, with retries and cookies [--attempts 3]
  keys          a configuration with these peers, for wg setconf  [--private-key-file FILE] [--port N] [--keepalive S]
plain UDP       --to ADDR:PORT | --at ADDR:PORT
  udp           1,400 bytes each                 [--size] [--rate, 0 = unpaced] [--batch 1] [--spread N [--step N]] [--seconds S] [--wait S]
  small         64 bytes each
  rtt           there and back                   [--rate 100]

--rate is messages a second. --sources N sends from N addresses from --bind on (IPv6: each in its own /64), which must be
local: `ip route add local PREFIX dev lo` makes any prefix so.";

fn run(name: &str, args: Args) -> Result<()> {
    match name {
        "junk" => attack::junk(args),
        "badmac1" => attack::badmac1(args),
        "initiations" => attack::initiations(args),
        "unknown-index" => attack::unknown_index(args),
        "template" => attack::template(args),
        "handshakes" => handshakes::handshakes(args),
        "newcomers" => handshakes::newcomers(args),
        "keys" => handshakes::keys_file(args),
        "udp" => plain::stream(args, name, 1400),
        "small" => plain::stream(args, name, 64),
        "rtt" => plain::rtt(args),
        _ => Err(format!("no load is called {name:?}\n\n{HELP}")),
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    if matches!(name.as_str(), "" | "help" | "--help" | "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Args::parse(words).and_then(|args| run(&name, args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(mistake) => {
            eprintln!("ginnel-load: {mistake}");
            ExitCode::from(2)
        }
    }
}
