# Process 1 of a lab's namespace: prepares it, says its process id as the lab sees it, and then holds it.
#
# $1 what to be called in the process list; $2 role; $3 host name; $4 "pipe" (end with stdin) or "sleeper" (end when killed);
# $5 an option for overlayfs.

# Its own id is read before /proc changes.
set -e
read -r pid _ < /proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
hostname "$3"
ip link set lo up
if [ -e /proc/sys/net/ipv6 ]; then
  for scope in all default; do echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_dad; done
  for scope in all default; do echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_ra; done
fi
case "$2" in
internet|nat)
  echo 1 > /proc/sys/net/ipv4/ip_forward
  [ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/all/forwarding ;;
relay)
  [ ! -e /proc/sys/net/ipv6 ] || echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 ;;
node)
  mkdir -m 700 /run/lab /run/lab/upper /run/lab/work
  chmod 755 /run/lab/upper
  mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/lab/upper,workdir=/run/lab/work,"$5" /etc ;;
esac
trap '' CHLD
echo "$pid"
exec >/dev/null 2>&1
if [ "$4" = pipe ]; then exec cat; else exec sleep infinity; fi
