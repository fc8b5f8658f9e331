"""
The machines of the plain tunnels (GRE, IP in IP), sans-I/O: what packets cannot decide for themselves.

Time is an argument, in nanoseconds of CLOCK_BOOTTIME; what goes out is an effect that the runtime applies.
"""
