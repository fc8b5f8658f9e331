"""MTU as arithmetic: the layers of a stack, what each takes, what is left; pure."""
