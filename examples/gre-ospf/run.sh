#!/bin/bash
# Three routers, GRE between every two, and OSPF over it: routes are learned, and when a link is cut, learned anew.
#
# The lab builds the network of network.toml and stays up; BIRD (Debian: bird2) is started on every router. Then a firewall
# somewhere between Paris and Lyon begins to eat protocol 47: no interface goes down, packets just stop coming. OSPF
# notices within four seconds, and what Paris has for Lyon goes by Nice.
#
# Run as root (or as a user who may make namespaces). Everything happens in namespaces of the lab, which end with this script.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cp "$here/network.toml" "$here/network.lock.toml" "$work"
end() {
    # The exit code is the run's. What cannot be ended (it never came up, say) is told on stderr.
    ginnel lab "$work" --down > /dev/null || true
    rm -rf "$work"
}
trap end EXIT

on() { # NODE COMMAND ...
    local node=$1
    shift
    ginnel lab "$work" --enter "$node" -- "$@"
}

# Until a command succeeds, at most so many seconds.
within() { # SECONDS COMMAND ...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "not within the time: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}

goes_by() { # NODE PREFIX DEVICE
    [ -n "$(on "$1" ip route show "$2" dev "$3" proto bird)" ]
}

echo "== the lab: three tunnels, and as yet no way from LAN to LAN"
ginnel lab "$work" --keep --throughput 0 > "$work/report" 2>&1 || { cat "$work/report" >&2; exit 1; }
grep -A 5 '^links' "$work/report"

echo "== BIRD on every router"
for router in paris lyon nice; do
    on "$router" bird -c "$here/bird.conf" -s /run/bird.ctl
done
within 30 goes_by paris 10.30.0.0/24 gre-lyon
within 30 goes_by lyon 10.20.0.0/24 gre-paris
on paris birdc -r -s /run/bird.ctl show ospf neighbors
echo "-- routes that Paris has learned:"
on paris ip route show proto bird
on lan-paris ping -c 2 -i 0.2 -W 5 10.30.0.2

echo "== protocol 47 between Paris and Lyon is filtered from now on"
on internet nft -f - <<'EOF'
table ip cut {
    chain passing {
        type filter hook forward priority filter;
        ip protocol gre ip saddr 203.0.113.10 ip daddr 198.51.100.20 drop
        ip protocol gre ip saddr 198.51.100.20 ip daddr 203.0.113.10 drop
    }
}
EOF
within 30 goes_by paris 10.30.0.0/24 gre-nice
within 30 goes_by lyon 10.20.0.0/24 gre-nice
echo "-- routes that Paris has now:"
on paris ip route show proto bird
on lan-paris ping -c 2 -i 0.2 -W 5 10.30.0.2

echo "== and let through again"
on internet nft delete table ip cut
within 60 goes_by paris 10.30.0.0/24 gre-lyon
on paris ip route show proto bird
echo "traffic found its way"
