"""A host's budget: window, rate, halving, parking."""

from __future__ import annotations

import asyncio
from time import monotonic

from crawler.host_budget import HostBudget
from crawler.limits import Limits


async def test_no_more_in_flight_than_the_window():
    budget = HostBudget(Limits(per_host=3, rate_per_host=0))
    most = 0

    async def work() -> None:
        nonlocal most
        started = await budget.acquire()
        most = max(most, budget.in_flight)
        await asyncio.sleep(0.002)
        budget.release(started)

    await asyncio.gather(*(work() for _ in range(40)))
    assert (most, budget.in_flight) == (3, 0)


async def test_overload_halves_once_a_round_and_success_restores_step_by_step():
    budget = HostBudget(Limits(per_host=8, rate_per_host=0))
    assert budget.window == 1
    for _ in range(8):  # one more for each answer, until there is trouble
        budget.release(await budget.acquire())
    started = [await budget.acquire() for _ in range(8)]
    for token in started:
        budget.release(token, overloaded=True)
    assert budget.window == 4  # eight refusals of one round are one message
    for _ in range(3):
        budget.release(await budget.acquire(), overloaded=True)
    assert budget.window == 1
    for _ in range(80):
        budget.release(await budget.acquire())
    assert budget.window == 8


async def test_rate_and_parking():
    budget = HostBudget(Limits(per_host=8, rate_per_host=50))
    began = monotonic()
    for _ in range(6):
        budget.release(await budget.acquire())
    assert 0.09 <= monotonic() - began < 0.5
    budget.park(monotonic() + 0.2)
    began = monotonic()
    await budget.acquire()
    assert monotonic() - began >= 0.19


async def test_a_cancelled_waiter_passes_its_turn_on():
    budget = HostBudget(Limits(per_host=1, rate_per_host=0))
    token = await budget.acquire()
    first, second = asyncio.create_task(budget.acquire()), asyncio.create_task(budget.acquire())
    await asyncio.sleep(0)
    budget.release(token)
    first.cancel()  # woken and cancelled in the same turn
    await asyncio.wait_for(second, 1)
    assert budget.in_flight == 1
