//! `--name value` arguments, and the rule about targets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;

pub type Result<T> = std::result::Result<T, String>;

/// The longest run; nothing here is meant to run unattended.
const MAX_SECONDS: f64 = 600.0;

/// The arguments after the subcommand. Each is taken once; what is left over is a mistake.
pub struct Args(BTreeMap<String, String>);

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = BTreeMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or(format!("expected --name value, found {word:?}"))?;
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            if args.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self(args))
    }

    pub fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("--{name}: {text:?} is not understood")),
        }
    }

    pub fn or<T: FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    pub fn required<T: FromStr>(&mut self, name: &str) -> Result<T> {
        self.optional(name)?.ok_or(format!("--{name} is missing"))
    }

    /// How long to send.
    pub fn seconds(&mut self) -> Result<Duration> {
        let seconds: f64 = self.or("seconds", 5.0)?;
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            return Err(format!("--seconds: from 0 to {MAX_SECONDS}"));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// An address that may be attacked.
    pub fn target(&mut self, name: &str) -> Result<SocketAddr> {
        let target: SocketAddr = self.required(name)?;
        if is_nobodys(target.ip()) {
            Ok(target)
        } else {
            Err(format!("--{name}: {target} may be somebody's; only loopback, private and documentation addresses are allowed"))
        }
    }

    /// A public key in base64.
    pub fn key(&mut self, name: &str) -> Result<[u8; 32]> {
        let text: String = self.required(name)?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&text)
            .unwrap_or_default();
        bytes
            .try_into()
            .map_err(|_| format!("--{name}: expected a key as `wg pubkey` prints it"))
    }

    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("--{name} means nothing here")),
        }
    }
}

/// Loopback, private, link-local, benchmark and documentation addresses: never a stranger's.
pub fn is_nobodys(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => {
            let benchmark = addr.octets()[0] == 198 && addr.octets()[1] & 0xfe == 18;
            addr.is_loopback()
                || addr.is_private()
                || addr.is_link_local()
                || addr.is_documentation()
                || benchmark
        }
        IpAddr::V6(addr) => {
            let within = |prefix: Ipv6Addr, len: u32| {
                (addr.to_bits() ^ prefix.to_bits()) >> (128 - len) == 0
            };
            addr.is_loopback()
                || within(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)
                || within(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
                || within(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32)
        }
    }
}

/// One flat JSON object.
#[derive(Default)]
pub struct Json(Vec<String>);

impl Json {
    pub fn count(mut self, name: &str, value: u64) -> Self {
        self.0.push(format!("\"{name}\": {value}"));
        self
    }

    pub fn number(mut self, name: &str, value: f64) -> Self {
        // JSON knows no infinities; there is nothing to divide by then.
        self.0.push(format!(
            "\"{name}\": {}",
            if value.is_finite() {
                format!("{value:.3}")
            } else {
                "null".to_owned()
            }
        ));
        self
    }

    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.0
            .push(format!("\"{name}\": \"{}\"", value.escape_default()));
        self
    }

    /// Percentiles of times, in milliseconds.
    pub fn times(mut self, mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        let last = nanoseconds.len().saturating_sub(1);
        for (name, share) in [
            ("min", 0.0),
            ("p50", 0.5),
            ("p95", 0.95),
            ("p99", 0.99),
            ("max", 1.0),
        ] {
            let value = nanoseconds
                .get((last as f64 * share) as usize)
                .map_or(f64::NAN, |&value| value as f64 / 1e6);
            self = self.number(&format!("{name}_ms"), value);
        }
        self
    }

    pub fn print(&self) {
        println!("{{{}}}", self.0.join(", "));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn args(text: &str) -> Args {
        Args::parse(text.split_whitespace().map(str::to_owned)).unwrap()
    }

    #[test]
    fn strangers_are_no_targets() {
        for good in [
            "127.0.0.1:1",
            "10.1.2.3:1",
            "192.168.0.1:1",
            "172.16.0.1:1",
            "192.0.2.1:1",
            "198.18.0.1:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
            "[2001:db8::1]:1",
        ] {
            assert!(args(&format!("--to {good}")).target("to").is_ok(), "{good}");
        }
        for bad in [
            "8.8.8.8:53",
            "172.32.0.1:1",
            "198.20.0.1:1",
            "[2001:4860::1]:1",
            "[::]:1",
            "0.0.0.0:1",
            "224.0.0.1:1",
        ] {
            assert!(args(&format!("--to {bad}")).target("to").is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(Args::parse(["rate".to_owned()].into_iter()).is_err());
        assert!(Args::parse(["--rate".to_owned()].into_iter()).is_err());
        assert!(args("--rate x").or("rate", 1_u64).is_err());
        assert!(args("--seconds 1e9").seconds().is_err());
        assert!(args("--seconds nan").seconds().is_err());
        assert!(args("--rat 5").finish().is_err());
    }

    #[test]
    fn json_is_json() {
        let json = Json::default()
            .count("a", 1)
            .number("b", f64::NAN)
            .text("c", "x\"y")
            .times(vec![1_000_000, 3_000_000]);
        assert_eq!(
            json.0[..3],
            ["\"a\": 1", "\"b\": null", "\"c\": \"x\\\"y\""]
        );
        assert!(json.0.contains(&"\"max_ms\": 3.000".to_owned()));
    }
}
