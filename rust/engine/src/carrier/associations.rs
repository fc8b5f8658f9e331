//! The SAs of a protected tunnel as the control plane gives and takes them.
//!
//! An SPI is promised (`reserve_spi`), becomes an inbound SA or is given back. Inbound SAs are added before the peer is told of them and removed when
//! it has let go; the outbound one is replaced. What is refused changes nothing, but its keys are gone.

use std::io;
use std::sync::Arc;

use ginnel_esp::inbound::{Inbound, Refusal};
use ginnel_esp::outbound::Outbound;
use ginnel_esp::outer::Rules;
use ginnel_esp::sa::{self, Mode};
use ginnel_esp::spi::SpiError;

use super::ike::scoped;
use super::protect::{Association, Owner, Path, Protect, Sending, MAX_INBOUND};
use super::tunnel::{PlainError, PlainTunnel};
use crate::sys::tun::OpenError;
use crate::{lock, write};

/// One SA, as the control plane sees it.
#[derive(Clone, Debug)]
pub struct AssociationCounters {
    pub spi: u32,
    pub inbound: bool,
    pub counters: sa::Counters,
    /// Of an inbound one.
    pub drops: Vec<(&'static str, u64)>,
}

impl PlainTunnel {
    fn protect(&self) -> Result<&Protect, PlainError> {
        let protect = self.plain.protect.as_ref();
        protect.ok_or_else(|| PlainError::Invalid("the tunnel is not protected".to_owned()))
    }

    /// A random SPI for an inbound SA of this tunnel. ENOBUFS when too many are promised.
    pub fn reserve_spi(&self, now_ns: u64) -> Result<u32, PlainError> {
        self.protect()?;
        // Drawn before the table is held; more than one is wanted once in thousands of years.
        let mut random = [0; 64];
        ginnel_crypto::entropy(&mut random).map_err(|error| {
            let step = "getrandom".to_owned();
            PlainError::Open(OpenError {
                step,
                source: io::Error::from(error),
            })
        })?;
        let mut draws = random.chunks_exact(4).map(|word| {
            word.iter()
                .fold(0, |value, byte| value << 8 | u32::from(*byte))
        });
        let mut tables = write(&self.shared.tables);
        let reserved = tables.spis.reserve(now_ns, || draws.next().unwrap_or(0));
        reserved.map_err(|_| PlainError::os("reserve_spi", libc::ENOBUFS))
    }

    /// A promise that became no SA.
    pub fn release_spi(&self, spi: u32) -> Result<(), PlainError> {
        self.protect()?;
        write(&self.shared.tables).spis.release(spi);
        Ok(())
    }

    /// From now on packets with this SPI come in. ENOBUFS beyond `MAX_INBOUND`.
    pub fn add_inbound(&self, given: Association, window: u32) -> Result<(), PlainError> {
        let protect = self.protect()?;
        let spi = given.terms.spi;
        check_mode(protect, &given)?;
        let sa = Inbound::new(
            given.terms,
            &given.key,
            &given.integrity,
            window,
            given.sequence,
        );
        let sa = Arc::new(sa.map_err(|error| PlainError::Invalid(error.to_string()))?);
        let mut tables = write(&self.shared.tables);
        if !tables.tunnels.contains_key(&self.plain.id) {
            return Err(PlainError::os("add_inbound", libc::EBADFD));
        }
        let mut inbound = lock(&protect.inbound);
        if inbound.len() >= MAX_INBOUND {
            return Err(PlainError::os("add_inbound", libc::ENOBUFS));
        }
        let owner = Owner {
            tunnel: self.plain.id,
            sa: sa.clone(),
        };
        if let Err(error) = tables.spis.insert(spi, owner) {
            return Err(PlainError::Invalid(match error {
                SpiError::NotOurs => format!("expected an SPI of 256 or more, found {spi}"),
                _ => format!("there is an inbound SA with SPI {spi:#010x} already"),
            }));
        }
        inbound.push(sa);
        Ok(())
    }

    /// Packets with this SPI are nobody's from now on; idempotent.
    pub fn remove_inbound(&self, spi: u32) -> Result<(), PlainError> {
        let protect = self.protect()?;
        let mut tables = write(&self.shared.tables);
        let mut inbound = lock(&protect.inbound);
        let removed = inbound.iter().position(|sa| sa.spi() == spi);
        let removed = removed.map(|at| (inbound.remove(at), tables.spis.remove(spi)));
        drop(inbound);
        drop(tables);
        // Behind the locks: its keys may be zeroed here.
        drop(removed);
        Ok(())
    }

    /// From the next visit on everything leaves under this SA.
    pub fn set_outbound(
        &self,
        given: Association,
        path: Path,
        rules: Rules,
    ) -> Result<(), PlainError> {
        let protect = self.protect()?;
        check_mode(protect, &given)?;
        let (path, fwmark, device) = self.check_path(path)?;
        let sa = Outbound::new(given.terms, &given.key, &given.integrity, given.sequence);
        let sa = Arc::new(sa.map_err(|error| PlainError::Invalid(error.to_string()))?);
        if self.is_closed() {
            return Err(PlainError::os("set_outbound", libc::EBADFD));
        }
        protect.set_sending(Sending {
            sa,
            path,
            rules,
            fwmark,
            device,
        });
        self.plain.forget_route();
        Ok(())
    }

    /// The same SA by another path. `NoSa` without one.
    pub fn set_outbound_path(&self, path: Path) -> Result<(), PlainError> {
        let protect = self.protect()?;
        let (path, ..) = self.check_path(path)?;
        if !protect.set_path(path) {
            return Err(PlainError::NoSa);
        }
        self.plain.forget_route();
        Ok(())
    }

    /// The path as the sockets take it, and what marks them.
    fn check_path(&self, path: Path) -> Result<(Path, u32, u32), PlainError> {
        if path.local.is_ipv6() != path.remote.is_ipv6() {
            return Err(PlainError::Invalid(format!(
                "local {} and remote {} are of different families",
                path.local,
                path.remote.ip()
            )));
        }
        let options = crate::read(&self.shared.ike)
            .as_ref()
            .map(|ports| ports.options);
        let (fwmark, device) = options.map_or((0, 0), |options| (options.fwmark, options.device));
        if let Some(natt_port) = options.map(|options| options.natt_port) {
            if path.in_udp() && path.local_port != natt_port {
                return Err(PlainError::Invalid(format!(
                    "expected our port to be that of NAT traversal, {natt_port}, found {}",
                    path.local_port
                )));
            }
        }
        let remote = scoped(path.remote, device);
        Ok((Path { remote, ..path }, fwmark, device))
    }

    /// Nothing leaves until `set_outbound`; idempotent.
    pub fn clear_outbound(&self) -> Result<(), PlainError> {
        self.protect()?.clear_sending();
        Ok(())
    }

    /// The outbound SA first, then the inbound ones, oldest first.
    pub fn associations(&self) -> Result<Vec<AssociationCounters>, PlainError> {
        let protect = self.protect()?;
        let outbound = protect.sending().map(|sending| AssociationCounters {
            spi: sending.sa.spi(),
            inbound: false,
            counters: sending.sa.counters(),
            drops: Vec::new(),
        });
        let inbound = lock(&protect.inbound).clone();
        let inbound = inbound.iter().map(|sa| {
            let (counters, drops) = sa.counters();
            let names = Refusal::ALL.map(Refusal::name);
            AssociationCounters {
                spi: sa.spi(),
                inbound: true,
                counters,
                drops: names.into_iter().zip(drops).collect(),
            }
        });
        Ok(outbound.into_iter().chain(inbound).collect())
    }
}

/// A tunnel without encapsulation has nothing that transport mode could protect.
fn check_mode(protect: &Protect, given: &Association) -> Result<(), PlainError> {
    if protect.bare && given.terms.mode == Mode::Transport {
        return Err(PlainError::Invalid(
            "ipsec carries whole packets: its SAs are of tunnel mode".to_owned(),
        ));
    }
    Ok(())
}
