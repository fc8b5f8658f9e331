//! The socket filter on a real socket over loopback: what the kernel shows it, with receive offload and without.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

use ginnel_wireguard::filter::{socket_filter_program, Instruction};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

fn set<T>(socket: &UdpSocket, level: i32, name: i32, value: &T) {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap();
    // SAFETY: value points to size bytes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn attach(socket: &UdpSocket, program: &[Instruction]) {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).unwrap(),
        filter: code.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program);
}

/// A receiver with the filter and a sender, on loopback of the family.
fn pair(host: &str, gro: bool, program: &[Instruction]) -> (UdpSocket, UdpSocket) {
    let receiver = UdpSocket::bind((host, 0)).unwrap();
    if gro {
        set(&receiver, libc::SOL_UDP, libc::UDP_GRO, &1_i32);
    }
    attach(&receiver, program);
    receiver
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let sender = UdpSocket::bind((host, 0)).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (receiver, sender)
}

fn message(kind: u32, len: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.resize(len.max(4), 0);
    bytes.truncate(len);
    bytes
}

/// Send all, then a sentinel that every filter keeps, and return the lengths received before it.
fn received(receiver: &UdpSocket, sender: &UdpSocket, send: impl FnOnce()) -> Vec<usize> {
    send();
    set(sender, libc::SOL_UDP, libc::UDP_SEGMENT, &0_i32);
    sender.send(&message(4, 33)).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut lengths = Vec::new();
    loop {
        match receiver.recv(&mut buffer).unwrap() {
            33 => return lengths,
            len => lengths.push(len),
        }
    }
}

#[test]
fn single_datagrams() {
    for host in ["127.0.0.1", "::1"] {
        for gro in [false, true] {
            let (receiver, sender) = pair(host, gro, &socket_filter_program(gro, &[]));
            let lengths = received(&receiver, &sender, || {
                let junk = [
                    (0, 0),
                    (0, 3),
                    (0, 148),
                    (1, 91),
                    (2, 63),
                    (3, 32),
                    (4, 31),
                    (5, 1000),
                    (0x101, 148),
                ];
                let good = [
                    (1, 148),
                    (2, 92),
                    (3, 64),
                    (4, 32),
                    (4, 1452),
                    (4, 65_507 - 20),
                ];
                for (kind, len) in junk.into_iter().chain(good) {
                    sender.send(&message(kind, len)).unwrap();
                }
            });
            assert_eq!(
                lengths,
                [148, 92, 64, 32, 1452, 65_487],
                "{host}, gro {gro}"
            );
        }
    }
}

#[test]
fn with_receive_offload_the_filter_sees_the_chain_as_one() {
    let chain = |kind: u32, size: usize, count: usize, last: usize| {
        let mut bytes = message(kind, size).repeat(count);
        bytes.extend(message(4, last));
        bytes
    };
    for host in ["127.0.0.1", "::1"] {
        // Chains of data and of initiations, the last datagram shorter, pass as one each.
        let (receiver, sender) = pair(host, true, &socket_filter_program(true, &[]));
        let lengths = received(&receiver, &sender, || {
            set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, &1400_i32);
            sender.send(&chain(4, 1400, 20, 32)).unwrap();
            set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, &148_i32);
            sender.send(&chain(1, 148, 3, 32)).unwrap();
        });
        assert_eq!(lengths, [28_032, 476], "{host}");
        // With exact lengths a chain of initiations would be lost: that is why they are minima then.
        let (receiver, sender) = pair(host, true, &socket_filter_program(false, &[]));
        let lengths = received(&receiver, &sender, || {
            set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, &148_i32);
            sender.send(&chain(1, 148, 3, 32)).unwrap();
        });
        assert!(lengths.is_empty(), "{host}: {lengths:?}");
        // Without offload on the receiver each datagram is judged by itself.
        let (receiver, sender) = pair(host, false, &socket_filter_program(false, &[]));
        let lengths = received(&receiver, &sender, || {
            set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, &148_i32);
            sender.send(&chain(1, 148, 3, 32)).unwrap();
        });
        assert_eq!(lengths, [148, 148, 148, 32], "{host}");
    }
}

#[test]
fn a_listed_address_is_thinned_out() {
    for host in ["127.0.0.1", "::1"] {
        let listed: IpAddr = host.parse().unwrap();
        let (receiver, sender) = pair(host, false, &socket_filter_program(false, &[listed]));
        let mut kept = 0;
        for _ in 0..100 {
            kept += received(&receiver, &sender, || {
                for _ in 0..64 {
                    sender.send(&message(1, 148)).unwrap();
                }
            })
            .len();
        }
        // 6,400 with a chance of 1 in 32: 200, standard deviation 14.
        assert!((100..300).contains(&kept), "{host}: {kept}");
        let mut with_mac2 = message(1, 148);
        with_mac2[132] = 1;
        let mut kept = 0;
        for _ in 0..20 {
            kept += received(&receiver, &sender, || {
                for _ in 0..64 {
                    sender.send(&with_mac2).unwrap();
                }
            })
            .len();
        }
        // 1,280 with a chance of 1 in 4: 320, standard deviation 15.
        assert!((200..440).contains(&kept), "{host}: {kept} with a mac2");
    }
}
