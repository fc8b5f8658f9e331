"""
The lab: rehearse a network on one machine before anyone deploys it.

    topology     which namespaces, wires and addresses a network becomes; pure
    namespaces   private network, mount and process namespaces, each held by one process; ended by the kernel
    world        the topology built: wires, addresses, NAT, an internet with faults
    offload      a relay needs frames as they would be on a wire
    nodes        each node's real process in its namespace, and what its interface says of itself
    tunnels      GRE links: what the processes say of them, what the hosts have, against the plan
    capture      every underlay link watched for what must never be there
    probe        pings, TCP and DNS from inside any namespace
    report       what was found, and whether it is as the file says
    rehearse     the whole, in order
    table        the truth table for people
    keep         finding and ending a lab that was left up

Nothing in here is simulated but the wires: the processes, the NAT, the routes and the packets are real.
"""
