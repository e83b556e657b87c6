"""How many CPU threads pay for themselves."""


def sparing_threads(batch_size: int, cores: int) -> int:
    """One thread for batches below 500, every core above.

    A step of a small network is tens of operations of some microseconds. Threads that share one wait for one another in
    a busy loop: on two quiet cores that gains about a tenth at batch size 100, and where another program takes one of
    the cores, an epoch of 0.7 s was seen to take half a minute. `num_threads` asks for more.
    """
    return 1 if batch_size < 500 else cores
