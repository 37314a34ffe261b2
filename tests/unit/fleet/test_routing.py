"""In which order Envoy and the activator learn of instances."""

import asyncio
from collections.abc import Iterable

from tests.functional.backends import in_loop
from tidesight.fleet.endpoints import Endpoint
from tidesight.fleet.routing import Routing

A, B, C = (Endpoint("127.0.0.1", port) for port in (1, 2, 3))


class Front:
    """Envoy and the activator in one; what they were told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[int]]] = []
        self.slow_s = 0.0

    async def set_endpoints(self, endpoints: Iterable[Endpoint]) -> bool:
        self.told.append(("envoy", {one.port for one in endpoints}))
        await asyncio.sleep(self.slow_s)
        return True

    def set_instances(self, endpoints: Iterable[Endpoint]) -> None:
        self.told.append(("activator", {one.port for one in endpoints}))


def routing(front: Front) -> Routing:
    made = Routing(front, front)  # type: ignore[arg-type]  # what it uses of both
    made.by_activator = False
    return made


@in_loop
async def test_who_is_new_is_with_the_activator_first_and_who_leaves_is_off_envoy_first() -> None:
    front = Front()
    route = routing(front)
    await route.publish(lambda: frozenset({A, B}))
    assert front.told == [("activator", {1, 2}), ("envoy", {1, 2})]
    assert route.activator_since_s is None
    front.told.clear()
    await route.publish(lambda: frozenset({B, C}))
    assert front.told == [("activator", {1, 2, 3}), ("envoy", {2, 3}), ("activator", {2, 3})]


@in_loop
async def test_by_way_of_the_activator_envoy_has_none() -> None:
    front = Front()
    route = routing(front)
    await route.publish(lambda: frozenset({A}))
    route.by_activator = True
    await route.publish(lambda: frozenset({A}))
    assert front.told[-1] == ("envoy", set())
    assert route.activator_since_s is not None
    since_s = route.activator_since_s
    await route.publish(lambda: frozenset({A, B}))
    assert front.told[-1] == ("activator", {1, 2})
    assert route.activator_since_s == since_s


@in_loop
async def test_changes_that_come_together_end_with_the_latest() -> None:
    front = Front()
    front.slow_s = 0.01
    route = routing(front)
    now = {A}
    first = asyncio.create_task(route.publish(lambda: frozenset(now)))
    await asyncio.sleep(0.005)
    now.add(B)
    second = asyncio.create_task(route.publish(lambda: frozenset(now)))
    now.add(C)
    await asyncio.gather(first, second)
    assert [told for name, told in front.told if name == "envoy"] == [{1}, {1, 2, 3}]


@in_loop
async def test_nothing_is_told_that_is_known() -> None:
    front = Front()
    route = routing(front)
    await route.publish(lambda: frozenset({A}))
    front.told.clear()
    await route.publish(lambda: frozenset({A}))
    assert front.told == []
