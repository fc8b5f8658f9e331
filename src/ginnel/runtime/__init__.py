"""
The process that owns a tunnel: the only asyncio in ginnel.

A protocol machine decides, the engine carries packets, and this layer joins them to the world: one loop, one timer, the
engine's eventfd, two sockets (`uapi` as `wg` knows it, `control` for ginnel's own questions), the kernel's link messages, host
names and the state file. It is kept light (standard library only) because one such process runs for every tunnel.

    daemon            python -m ginnel.runtime.daemon: the process `ginnel up` starts
    wireguard_main    ginnel-wireguard IFNAME: the same as a drop-in for wireguard-go
    process           detaching, readiness, hygiene
    owner             the loop: engine events -> machine -> effects on the tunnel
    stream            a unix socket whose slow readers cost nothing
    uapi control      the two sockets
    monitor inotify   link, MTU, namespace, routes; the removed socket file
    resolve           endpoint names, asked again when a peer went silent
    state             what is remembered for after a crash
    journal           where log lines go
"""
