"""Which engine, precision, threads and input run a model fastest on this machine, within bounds on p99 and accuracy."""
