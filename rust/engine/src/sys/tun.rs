//! The TUN device (TAP for tunnels that carry Ethernet): opened with a virtio-net header in front of each packet, so that the kernel
//! hands over TCP and UDP super-packets whole and takes coalesced ones back.
//!
//! Offloads are asked for in two steps, TCP first: USO needs Linux 6.2, and an older kernel must keep TSO. Which are live, and why
//! the others are not, is kept for `status`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{check, check_len};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TUN: i16 = 0x0001;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO: libc::c_uint = 0x02 | 0x04;
const TUN_F_USO: libc::c_uint = 0x20 | 0x40;

/// The short virtio-net header, which is what we read and write.
const HEADER_SIZE: libc::c_int = 10;

/// `struct ifreq`, of which we use the name and either the flags or an int.
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

impl IfReq {
    fn named(name: &str) -> io::Result<Self> {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        let bytes = name.as_bytes();
        // The kernel wants a terminating zero inside the 16 bytes.
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        request.name[..bytes.len()].copy_from_slice(bytes);
        Ok(request)
    }
}

/// A system call that failed, and which one it was, for the message a person reads.
#[derive(Debug)]
pub struct OpenError {
    pub step: String,
    pub source: io::Error,
}

/// What a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// IP packets: TUN.
    Ip,
    /// Ethernet frames: TAP.
    Ethernet,
}

impl Layer {
    fn flag(self) -> i16 {
        match self {
            Self::Ip => IFF_TUN,
            Self::Ethernet => IFF_TAP,
        }
    }
}

/// One open device; dropping it deletes the device unless it was made persistent by others.
pub struct Tun {
    fd: OwnedFd,
    name: String,
    /// Packets carry a virtio-net header on this descriptor.
    pub vnet_hdr: bool,
    pub tcp_offload: Result<(), String>,
    pub udp_offload: Result<(), String>,
}

impl Tun {
    /// Makes the device *name*, or attaches to a persistent one of that name.
    pub fn open(name: &str, mtu: u16, offload: bool) -> Result<Self, OpenError> {
        Self::open_layer(Layer::Ip, name, mtu, offload)
    }

    /// The same for a device of either layer.
    pub fn open_layer(
        layer: Layer,
        name: &str,
        mtu: u16,
        offload: bool,
    ) -> Result<Self, OpenError> {
        let failed = |step: &str| {
            let step = step.to_owned();
            move |source| OpenError { step, source }
        };
        let path: &CStr = c"/dev/net/tun";
        // SAFETY: the path is a C string; a non-negative result is a descriptor that nobody else owns.
        let fd = unsafe {
            let fd = libc::open(
                path.as_ptr(),
                libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK,
            );
            OwnedFd::from_raw_fd(check(fd).map_err(failed("/dev/net/tun"))?)
        };
        let mut request = IfReq::named(name).map_err(failed("TUNSETIFF"))?;
        let flags = layer.flag() | IFF_NO_PI | IFF_VNET_HDR;
        request.value[..2].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &mut request) })
            .map_err(failed("TUNSETIFF"))?;
        let mut tun = Self {
            fd,
            name: name.to_owned(),
            vnet_hdr: true,
            tcp_offload: Err("switched off".to_owned()),
            udp_offload: Err("switched off".to_owned()),
        };
        set_mtu(name, mtu).map_err(failed("SIOCSIFMTU"))?;
        tun.set_header_size().map_err(failed("TUNSETVNETHDRSZ"))?;
        tun.set_offloads(offload);
        Ok(tun)
    }

    /// Takes over a descriptor that somebody else opened (`WG_TUN_FD`); its device keeps its name and MTU.
    pub fn adopt(fd: OwnedFd, offload: bool) -> Result<Self, OpenError> {
        Self::adopt_layer(Layer::Ip, fd, offload)
    }

    /// The same for a device of either layer.
    pub fn adopt_layer(layer: Layer, fd: OwnedFd, offload: bool) -> Result<Self, OpenError> {
        let mut request = IfReq {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        // SAFETY: TUNGETIFF writes one ifreq, which `request` is; O_NONBLOCK is set without touching other flags.
        let flags = unsafe {
            check(libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &mut request))
                .and_then(|_| check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL)))
                .and_then(|flags| {
                    check(libc::fcntl(
                        fd.as_raw_fd(),
                        libc::F_SETFL,
                        flags | libc::O_NONBLOCK,
                    ))
                })
                .map_err(|source| OpenError {
                    step: "TUNGETIFF".to_owned(),
                    source,
                })?;
            i16::from_ne_bytes([request.value[0], request.value[1]])
        };
        let name = request
            .name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        let mut tun = Self {
            fd,
            name: String::from_utf8_lossy(name).into_owned(),
            vnet_hdr: flags & IFF_VNET_HDR != 0,
            tcp_offload: Err("switched off".to_owned()),
            udp_offload: Err("switched off".to_owned()),
        };
        if flags & layer.flag() == 0 || flags & IFF_NO_PI == 0 {
            let expected = match layer {
                Layer::Ip => "IFF_TUN",
                Layer::Ethernet => "IFF_TAP",
            };
            return Err(OpenError {
                step: format!("adopt: expected {expected} with IFF_NO_PI"),
                source: io::Error::from_raw_os_error(libc::EINVAL),
            });
        }
        tun.set_header_size().map_err(|source| OpenError {
            step: "TUNSETVNETHDRSZ".to_owned(),
            source,
        })?;
        tun.set_offloads(offload);
        Ok(tun)
    }

    /// A device keeps the header size that whoever opened it before had set.
    fn set_header_size(&self) -> io::Result<()> {
        let size = HEADER_SIZE;
        if self.vnet_hdr {
            // SAFETY: TUNSETVNETHDRSZ reads one int, which `size` is.
            check(unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const size) })?;
        }
        Ok(())
    }

    fn set_offloads(&mut self, wanted: bool) {
        let ask = |flags: libc::c_uint| {
            // SAFETY: TUNSETOFFLOAD takes its argument by value.
            let result = unsafe {
                libc::ioctl(
                    self.fd.as_raw_fd(),
                    TUNSETOFFLOAD,
                    libc::c_ulong::from(flags),
                )
            };
            check(result).map(|_| ()).map_err(|error| error.to_string())
        };
        if !self.vnet_hdr || !wanted {
            if !self.vnet_hdr {
                self.tcp_offload = Err("the descriptor has no virtio-net header".to_owned());
                self.udp_offload = self.tcp_offload.clone();
            }
            // Whoever had the device before may have left them on. A kernel that cannot be told so never had any.
            let _ = ask(0);
            return;
        }
        let tcp = ask(TUN_F_CSUM | TUN_F_TSO);
        let udp = match &tcp {
            Ok(()) => ask(TUN_F_CSUM | TUN_F_TSO | TUN_F_USO)
                .map_err(|error| format!("{error} (USO needs Linux 6.2)")),
            Err(_) => Err("needs TCP offload first".to_owned()),
        };
        self.tcp_offload = tcp;
        self.udp_offload = udp;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One packet (with its virtio-net header when `vnet_hdr`); `WouldBlock` when there is none, EBADFD when the device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        super::poll::read(self.fd.as_raw_fd(), buffer)
    }

    /// Writes the gathered slices as one packet.
    pub fn write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: IoSlice is guaranteed ABI-compatible with iovec; the count is the slice's, bounded by UIO_MAXIOV by the caller.
        check_len(unsafe {
            libc::writev(
                self.fd.as_raw_fd(),
                slices.as_ptr().cast(),
                slices.len() as libc::c_int,
            )
        })
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let mut request = IfReq::named(name)?;
    request.value[..4].copy_from_slice(&i32::from(mtu).to_ne_bytes());
    // SAFETY: a plain socket, closed on drop; SIOCSIFMTU reads one ifreq, which `request` is.
    unsafe {
        let socket = check(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        let socket = OwnedFd::from_raw_fd(socket);
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &request))?;
    }
    Ok(())
}
