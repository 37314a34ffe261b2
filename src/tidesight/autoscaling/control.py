"""One tick: observe, decide, resize. The local controller, the simulator and a Kubernetes scaler all run this."""

from typing import Protocol

from tidesight.autoscaling.observation import Observation
from tidesight.autoscaling.policy import Autoscaler, Decision


class Scalable(Protocol):
    """A fleet whose size can be set."""

    def observe(self) -> Observation:
        """Its state now."""
        ...

    def resize(self, replicas: int) -> None:
        """Want this many instances from now on."""
        ...


def tick(target: Scalable, autoscaler: Autoscaler) -> Decision:
    """Decide once, and set the count when it changes.

    When `resize` fails, the autoscaler remembers nothing of this tick: a scaling that did not happen uses up no rate.
    """
    seen = target.observe()
    decision, memory = autoscaler.propose(seen)
    if decision.valid and decision.replicas != seen.replicas:
        target.resize(decision.replicas)
    autoscaler.remember(memory)
    return decision
