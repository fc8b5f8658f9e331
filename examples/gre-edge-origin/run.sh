#!/bin/bash
# A hidden origin behind a protected edge, joined by GRE.
#
#     client ── internet ── edge ═══ GRE ═══ origin       203.0.113.64/28 is routed to the edge and lives on the origin
#     192.0.2.80        203.0.113.1       198.51.100.20
#
# The client talks to 203.0.113.65 and never learns of 198.51.100.20. The answers go back through the tunnel, by a rule of
# origin.toml for what comes from the protected addresses; the origin's own traffic goes straight out, as before.
#
# Run as root. Everything happens in namespaces of this script's own, which end with it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" != inside ]; then
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" inside
fi
mount -t tmpfs tmpfs /run

# The internet (this namespace) and three hosts on it.
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
host() { # NAME ADDRESS
    ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip link set "to-$1" up
    ip route add "$2/32" dev "to-$1"
    ip -n "$1" link set lo up
    ip -n "$1" addr add "$2/32" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default dev eth0 onlink via 192.0.0.8
}
ip addr add 192.0.0.8/32 dev lo
host client 192.0.2.80
host edge 203.0.113.1
host origin 198.51.100.20
ip route add 203.0.113.64/28 via 203.0.113.1 dev to-edge onlink
# As the rest of the internet does: from the origin's wire comes only what the origin's own address sends.
nft -f - <<'EOF'
table ip border {
    chain entering {
        type filter hook forward priority filter;
        iifname "to-origin" ip saddr != 198.51.100.20 counter drop
    }
}
EOF

ip netns exec edge ginnel up "$here/edge.toml"
# /run is shared by these hosts of one machine, so the origin has one of its own.
ip netns exec origin unshare --mount sh -euc '
    mount -t tmpfs tmpfs /run
    ginnel up "$1/origin.toml"
    echo "on the origin, what is sent under a protected address goes by:"
    ip route get 192.0.2.80 from 203.0.113.65
    echo "and under its own:"
    ip route get 192.0.2.80
' sh "$here"

echo "the client asks a protected address:"
ip netns exec client ping -c 2 -i 0.2 -W 5 203.0.113.65
echo "the origin speaks for itself as before:"
ip netns exec origin ping -c 1 -W 5 -I 198.51.100.20 192.0.2.80

# A megabyte through it: TCP's segments fit, because the SYNs are clamped to the tunnel.
head -c 1000000 /dev/urandom > /run/page
ip netns exec origin ncat --listen 203.0.113.65 80 --send-only < /run/page &
served=$!
for _ in $(seq 50); do
    ip netns exec client ncat --recv-only 203.0.113.65 80 > /run/got && break
    sleep 0.1
done
wait "$served"
cmp /run/page /run/got
echo "1000000 bytes came from 203.0.113.65, and none of them from 198.51.100.20:"
nft list chain ip border entering | grep counter
