#!/bin/bash
# A container whose only way out is a tunnel.
#
# The interface is made where the internet is, by a process that keeps its UDP sockets there, and is then moved into the
# container. The container sees wg0 and nothing else: no tunnel, no packet. This is what `ip link set netns` does for the
# kernel's WireGuard, with an interface of ginnel's.
#
#     host ── eth ── server            the internet between them
#      │ wg0: made here, sockets here
#      ▼
#     container                        has wg0 alone
#
# Run as root. Everything happens in namespaces of this script's own, which end with it.
set -euo pipefail

if [ "${1:-}" != inside ]; then
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" inside
fi
mount -t tmpfs tmpfs /run
umask 077
cd "$(mktemp -d -p /run)"

# The three places.
ip link set lo up
ip netns add server
ip netns add container
ip link add eth type veth peer name eth netns server
ip addr add 198.51.100.1/24 dev eth
ip link set eth up
ip -n server addr add 198.51.100.2/24 dev eth
ip -n server link set eth up
ip -n server link set lo up
ip -n container link set lo up

# Keys are born here and never leave.
ginnel genkey > container.key
ginnel genkey > server.key

# The server: an ordinary file, an ordinary `ginnel up`.
cat > srv0.conf <<EOF
[Interface]
PrivateKey = $(cat server.key)
ListenPort = 51820
Address = 10.14.0.1/24, fd10:14::1/64

[Peer]
# Name = container
PublicKey = $(ginnel pubkey < container.key)
AllowedIPs = 10.14.0.2/32, fd10:14::2/128
EOF
ip netns exec server ginnel up ./srv0.conf

# The host makes the interface, tells it its peer, and gives it away.
ginnel-wireguard wg0
wg set wg0 private-key container.key \
    peer "$(ginnel pubkey < server.key)" allowed-ips 0.0.0.0/0,::/0 endpoint 198.51.100.2:51820 persistent-keepalive 25
ip link set wg0 netns container

# The container has one interface and one way out.
ip -n container addr add 10.14.0.2/24 dev wg0
ip -n container addr add fd10:14::2/64 dev wg0 nodad
ip -n container link set wg0 up
ip -n container route add default dev wg0
ip -n container -6 route add default dev wg0

echo "in the container:"
ip -n container -br link
ip -n container route
ip netns exec container ping -c 2 -i 0.2 -W 5 10.14.0.1
ip netns exec container ping -c 2 -i 0.2 -W 5 fd10:14::1
echo "on the host, where the sockets are:"
wg show wg0 latest-handshakes

# Without the tunnel there is no way out, not even to the server's outside address.
ip -n container link set wg0 down
if ip netns exec container ping -c 1 -W 1 198.51.100.2 > /dev/null 2>&1; then
    echo "the container got out without its tunnel" >&2
    exit 1
fi
echo "with wg0 down: no way out"
