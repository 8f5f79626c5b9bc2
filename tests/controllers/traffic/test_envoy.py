"""A real Envoy under real ADS."""

from __future__ import annotations

import math

from tests.controllers.traffic.proxy import backends, endpoint_slice, running, split


class TestWeights:
    async def test_split_within_three_sigma(self) -> None:
        async with running() as proxy, backends("aaaa", "bbbb") as (stable, candidate):
            proxy.slices(endpoint_slice("aaaa", [stable.port]), endpoint_slice("bbbb", [candidate.port]))
            wanted = split(1, port=proxy.port)
            proxy.ask(wanted)
            await proxy.verified(wanted)
            assert await proxy.count(20) == {"aaaa": 20}
            wanted = split(2, 20, port=proxy.port, candidate="bbbb")
            proxy.ask(wanted)
            await proxy.verified(wanted)
            found = await proxy.count(2000)
            assert set(found) == {"aaaa", "bbbb"}
            assert abs(found["bbbb"] - 400) <= 3 * math.sqrt(2000 * 0.2 * 0.8)
