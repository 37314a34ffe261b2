"""How many connections this process may hold."""

from tidesight.resources import usable_connections


def usable(wanted: int) -> int:
    """Raise this process's limit of open files as far as it goes; how many connections then fit, at most `wanted`."""
    import resource  # not on Windows

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return usable_connections(wanted)
