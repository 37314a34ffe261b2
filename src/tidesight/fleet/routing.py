"""Where requests go: straight to the instances, or by way of the activator; and in which order that changes.

Whoever is to leave is taken off Envoy's list first, then off the activator's, and is told to end only then; whoever is
new is on the activator's list first, where requests may wait for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from tidesight.fleet.activator import Activator
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.envoy import Envoy

log = logging.getLogger(__name__)


class Routing:
    """Keeps Envoy's and the activator's lists as they are to be.

    Args:
        envoy: Which has started.
        activator: Which has started.

    Attributes:
        by_activator: Whether requests are to go by way of the activator even where instances are ready.
        activator_since_s: Since when they all do (`time.monotonic`); None while they do not.
    """

    def __init__(self, envoy: Envoy, activator: Activator) -> None:
        self.by_activator = True
        self.activator_since_s: float | None = time.monotonic()
        self._envoy = envoy
        self._activator = activator
        self._direct: frozenset[Endpoint] = frozenset()
        self._held: frozenset[Endpoint] = frozenset()
        self._one_at_a_time = asyncio.Lock()

    async def publish(self, instances: Callable[[], frozenset[Endpoint]]) -> None:
        """Bring both lists up to date; when this returns, nobody is sent to an instance that was not among these.

        Args:
            instances: Gives those that can take requests, at the moment of the change.
        """
        async with self._one_at_a_time:
            ready = instances()
            self._tell_activator(self._held | ready)
            direct = frozenset[Endpoint]() if self.by_activator else ready
            if direct != self._direct:
                if not await self._envoy.set_endpoints(direct):
                    log.warning("Envoy has not taken its list of instances in time; it will when it can")
                self._direct = direct
            if direct:
                self.activator_since_s = None
            elif self.activator_since_s is None:
                self.activator_since_s = time.monotonic()
            self._tell_activator(ready)

    def _tell_activator(self, endpoints: frozenset[Endpoint]) -> None:
        if endpoints != self._held:
            self._activator.set_instances(endpoints)
            self._held = endpoints
