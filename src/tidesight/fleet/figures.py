"""Numbers as people read them, in a terminal as on the page; a dash is what is not known."""

NONE = "-"


def count(value: float | None) -> str:
    """A count or a rate, with as many decimals as matter."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def counted(value: int, word: str) -> str:
    """`4 instances`, `1 instance`."""
    return f"{value:,} {word}{'' if value == 1 else 's'}"


def latency(ms: float | None) -> str:
    """Milliseconds, or seconds where they are many."""
    if ms is None:
        return NONE
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def duration(seconds: float) -> str:
    """`4.2 s`, `45 s`, `3 min 05 s`, `2 h 05 min`, `1 d 3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    if whole < 60:
        return f"{whole} s"
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"


def clock(seconds: float) -> str:
    """A moment since the fleet started: `0:03:05`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def memory(value_bytes: float | None) -> str:
    """Memory in MiB, or GiB where it is much."""
    if value_bytes is None:
        return NONE
    mib = value_bytes / 2**20
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def dollars(usd: float) -> str:
    """US dollars, two digits of what is less than ten cents."""
    if usd >= 0.1 or usd <= 0:
        return f"${usd:,.2f}"
    decimals = next(n for n in range(2, 20) if usd * 10**n >= 10 - 0.5)
    return f"${usd:.{decimals}f}"
