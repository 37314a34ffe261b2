"""Connections that cannot be made: of which class the failure is, and what to do about it."""

import asyncio
import errno
import resource
import socket
import ssl

from tidesight.errors import TidesightError
from tidesight.loadtest.target import Target
from tidesight.resources import usable_connections
from tidesight.workload.outcome import Failure

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


def usable(wanted: int) -> int:
    """Raise this process's limit of open files as far as it goes; how many connections then fit, at most `wanted`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return usable_connections(wanted)


def failure_of(error: Exception) -> Failure:
    """The class of an error that kept a connection from being made."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return Failure.DNS
    if isinstance(error, ssl.SSLError):
        return Failure.TLS
    if isinstance(error, ConnectionRefusedError):
        return Failure.REFUSED
    if isinstance(error, ConnectionError):
        return Failure.RESET
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    return Failure.EXHAUSTED if isinstance(error, OSError) and error.errno in _EXHAUSTED else Failure.UNREACHABLE


_ADVICE = {
    Failure.REFUSED: "nothing listens there; start the server, or correct the port",
    Failure.DNS: "no such host name",
    Failure.TLS: "its certificate is not trusted; --cacert FILE names one that is, --insecure trusts any",
    Failure.TIMEOUT: "no answer to the attempt to connect",
}


async def check_reachable(target: Target, timeout_s: float) -> None:
    """Open and close one connection, so that a run does not begin in vain.

    Raises:
        TidesightError: it cannot be opened; says why and what to do.
    """
    try:
        async with asyncio.timeout(timeout_s):
            name = target.host if target.tls else None
            _, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls, server_hostname=name)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        advice = _ADVICE.get(failure_of(error), "see that this machine can reach it")
        raise TidesightError(f"cannot connect to {target.url}: {reason or 'timed out'}: {advice}") from None
    writer.transport.abort()
