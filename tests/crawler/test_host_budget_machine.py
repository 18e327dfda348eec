"""The budgets of a host as state machines: whatever happens, in whatever order, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crawler.breaker import Breaker
from crawler.buckets import ByteBucket, RetryBudget
from crawler.crawl_errors import Refused
from crawler.host_budget import HostBudget, Token
from crawler.limits import Limits
from crawler.slots import Slots, Standing


class HostMachine(RuleBasedStateMachine):
    """Requests begin when they may, and end in every way there is."""

    @initialize(
        per_host=st.integers(1, 6),
        rate=st.sampled_from([0.0, 0.5, 10.0]),
        failures=st.integers(1, 5),
        give_up=st.sampled_from([5.0, 60.0]),
    )
    def begin_with(self, per_host: int, rate: float, failures: int, give_up: float) -> None:
        self.limits = Limits(
            per_host=per_host,
            rate_per_host=rate,
            breaker_failures=failures,
            breaker_pause_s=1,
            breaker_longest_pause_s=8,
            give_up_s=give_up,
        )
        self.now = 1000.0
        self.budget = HostBudget(self.limits, clock=lambda: self.now)
        self.out: list[Token] = []
        self.starts: list[float] = []
        self.parked_until = 0.0
        self.in_a_row = 0
        self.first_failure = 0.0
        self.gone = False

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 7.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_asks(self) -> None:
        try:
            wait = self.budget.wait_s(self.now)
        except Refused:
            assert self.gone
            return
        assert not self.gone
        if wait == 0.0:
            token = self.budget.begin(self.now)
            assert self.now >= self.parked_until
            assert not self.starts or self.now - self.starts[-1] >= self.budget.interval_s - 1e-9
            assert token.probe == (self.in_a_row >= self.limits.breaker_failures)
            assert not (token.probe and any(other.probe for other in self.out)), "one probe at a time"
            self.starts.append(self.now)
            self.out.append(token)
        elif wait is None:
            assert self.out, "who waits for somebody's end waits for somebody"
        else:
            # so long, and no longer
            self.now += wait + 1e-6
            assert self.budget.wait_s(self.now) in (0.0, None)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), end=st.sampled_from(["ok", "overloaded", "failed", "cancelled"]))
    def one_ends(self, data: Any, end: str) -> None:
        token = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.budget.window
        opened = self.budget.release(
            token,
            overloaded=end == "overloaded",
            failed=end if end in ("failed", "overloaded") else "",
            answered=end != "cancelled",
        )
        if end == "ok":
            self.in_a_row = 0
            assert not self.budget.breaker.is_open
            assert self.budget.window >= before
        elif end != "cancelled":
            if self.in_a_row == 0:
                self.first_failure = self.now
            was_open = self.in_a_row >= self.limits.breaker_failures
            self.in_a_row += 1
            now_open = self.in_a_row >= self.limits.breaker_failures
            assert opened == (now_open and not was_open)
            if (opened or token.probe) and self.now >= self.first_failure + self.limits.give_up_s:
                self.gone = True
        if opened:
            assert self.budget.window == 1

    @rule(seconds=st.sampled_from([0.5, 20.0]))
    def it_asks_to_be_left_alone(self, seconds: float) -> None:
        self.budget.park(self.now + seconds)
        self.parked_until = max(self.parked_until, self.now + seconds)

    @invariant()
    def within_bounds(self) -> None:
        if not hasattr(self, "budget"):
            return
        assert 1 <= self.budget.window <= self.limits.per_host
        assert self.budget.in_flight == len(self.out) <= self.limits.per_host
        assert (self.budget.given_up is not None) == self.gone
        assert self.budget.breaker.is_open == (self.in_a_row >= self.limits.breaker_failures)


TestHostMachine = HostMachine.TestCase
TestHostMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    failures=st.integers(1, 20),
    pause=st.floats(0.1, 10),
    longest=st.floats(0.1, 100),
    give_up=st.floats(1, 1000),
    took=st.floats(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_a_dead_host_is_given_up_in_time_and_asked_little(failures, pause, longest, give_up, took):
    limits = Limits(
        breaker_failures=failures, breaker_pause_s=pause, breaker_longest_pause_s=longest, give_up_s=give_up
    )
    breaker, now, asked, first = Breaker(limits), 0.0, 0, None
    while True:
        wait = breaker.wait_s(now)
        assert wait is not None
        now += wait
        asked += 1
        probe = breaker.begin()
        now += took
        first = now if first is None else first
        if breaker.failed(now, probe=probe):
            break
    # the failures that open it take their own time; after that, nothing lasts longer than the time and one request
    assert now <= first + max(give_up, failures * took) + took + 1e-3
    assert asked <= failures + 2 + give_up / min(pause, longest) + give_up / max(took, 0.1)


def test_an_answer_closes_it_and_the_pauses_begin_anew():
    breaker = Breaker(Limits(breaker_failures=2, breaker_pause_s=1, breaker_longest_pause_s=5))
    pauses = []
    for _ in range(2):
        breaker.failed(0.0, probe=False)
    for _ in range(4):
        pauses.append(breaker.wait_s(0.0))
        assert breaker.begin()
        assert breaker.wait_s(0.0) is None
        breaker.failed(0.0, probe=True)
    assert pauses == [1, 2, 4, 5]
    breaker.answered()
    assert breaker.wait_s(0.0) == 0.0
    for _ in range(2):
        breaker.failed(0.0, probe=False)
    assert breaker.wait_s(0.0) == 1


@given(rate=st.floats(1, 1e6), pieces=st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 3)), max_size=50))
def test_bytes_never_come_faster_than_the_cap(rate, pieces):
    bucket, now, total = ByteBucket(rate), 0.0, 0
    for size, idle in pieces:
        total += size
        now += bucket.take(size, now)
        assert total <= rate * now * (1 + 1e-9) + 1e-6
        now += idle  # and what was not used is not saved up
    assert ByteBucket(0).take(10**9, 0.0) == 0.0


@given(st.lists(st.booleans(), max_size=400), st.floats(0, 1), st.integers(0, 20))
def test_retries_stay_within_their_share(asks, ratio, floor):
    budget, requests, retries = RetryBudget(Limits(retry_ratio=ratio, retry_floor=floor)), 0, 0
    for is_retry in asks:
        if is_retry:
            retries += budget.spend()
        else:
            budget.earn()
            requests += 1
        assert retries <= floor + ratio * requests + 1e-6


@given(
    count=st.integers(1, 8),
    actions=st.lists(st.tuples(st.sampled_from("aaerc"), st.integers(0, 5), st.sampled_from(Standing)), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_slots_are_never_too_many_and_never_idle(count, actions):
    async def run() -> None:
        now, quick_at = [0.0], float("-inf")
        slots, half = Slots(count, clock=lambda: now[0]), max(1, count // 2)
        held: list[Standing] = []
        waiting: list[tuple[asyncio.Task[None], Standing]] = []

        def took(task: asyncio.Task[None], standing: Standing) -> None:
            if not task.cancelled():
                held.append(standing)

        for what, number, standing in actions:
            others = sum(one is not Standing.QUICK for one in held)
            if what == "a":
                quick_at = now[0] if standing is Standing.QUICK else quick_at
                if slots.take(standing):
                    held.append(standing)
                else:
                    task = asyncio.create_task(slots.wait(number, standing))
                    task.add_done_callback(lambda task, standing=standing: took(task, standing))
                    waiting.append((task, standing))
            elif what == "e" and held:
                slots.release(held.pop(number % len(held)))
            elif what == "r":
                now[0] += number
            elif what == "c" and waiting:
                waiting[number % len(waiting)][0].cancel()
            for _ in range(4):
                await asyncio.sleep(0)
            waiting = [(task, standing) for task, standing in waiting if not task.done()]
            assert slots.free == count - len(held) >= 0
            new, slow = held.count(Standing.NEW), held.count(Standing.SLOW)
            assert new <= half
            if now[0] < quick_at + 5:
                assert new + slow <= max(half, others), "they gain nothing beyond half while quick ones are at work"
            if slots.free:
                wanted = {standing for _, standing in waiting}
                assert Standing.QUICK not in wanted, "a quick host waits, and a slot is free"
                assert not wanted or new + slow >= half, "a slow host waits below its share"
        while held or waiting:  # everybody has his turn in the end
            if held:
                slots.release(held.pop())
            for _ in range(4):
                await asyncio.sleep(0)
            waiting = [(task, standing) for task, standing in waiting if not task.done()]
            assert held or not waiting

    asyncio.run(run())


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_given_up_host_keeps_nobody_waiting(cancelled):
    budget = HostBudget(Limits(per_host=1, rate_per_host=0))
    token = await budget.acquire()
    budget.park(budget._clock() + 3600)
    queued = [asyncio.create_task(budget.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    budget.release(token)  # one of them now sleeps until the park is over
    await asyncio.sleep(0)
    for task in queued[:cancelled]:
        task.cancel()
    await asyncio.sleep(0)
    budget.give_up("host-down", "for a test")
    ends = await asyncio.wait_for(asyncio.gather(*queued, return_exceptions=True), 5)
    assert all(isinstance(end, Refused) for end in ends[cancelled:])


async def test_a_cancelled_sleeper_passes_its_turn_on():
    budget = HostBudget(Limits(per_host=1, rate_per_host=20))
    token = await budget.acquire()
    first, second = asyncio.create_task(budget.acquire()), asyncio.create_task(budget.acquire())
    await asyncio.sleep(0)
    budget.release(token)
    await asyncio.sleep(0)  # the first has been woken and sleeps for the rate's sake
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert budget.in_flight == 1


def test_slow_hosts_have_half_while_quick_ones_are_at_work():
    now = [0.0]
    slots = Slots(8, clock=lambda: now[0])
    assert slots.take(Standing.QUICK)
    slots.release(Standing.QUICK)
    assert [slots.take(Standing.SLOW) for _ in range(6)] == [True] * 4 + [False] * 2
    assert not slots.take(Standing.NEW)
    assert [slots.take(Standing.QUICK) for _ in range(5)] == [True] * 4 + [False]
    slots.release(Standing.QUICK)
    assert not slots.take(Standing.SLOW)
    now[0] += 60  # no quick host has begun anything for a minute
    assert slots.take(Standing.SLOW)


def test_hosts_never_heard_of_have_half_at_most():
    slots = Slots(8)
    assert [slots.take(Standing.NEW) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [slots.take(Standing.SLOW) for _ in range(5)] == [True] * 4 + [False]


def test_a_host_is_what_it_was_last():
    now = [0.0]
    budget = HostBudget(Limits(rate_per_host=0, per_host=4), clock=lambda: now[0])

    def asked(seconds: float, **end: Any) -> Standing:
        token = budget.begin(now[0])
        budget.begun(token)
        now[0] += seconds
        budget.release(token, **end)
        return budget.standing()

    assert asked(0.1, robots=True) is Standing.NEW  # a quick robots.txt promises nothing
    assert asked(0.1) is Standing.QUICK
    assert asked(0.1, failed="timeout") is Standing.SLOW
    assert asked(0.1) is Standing.QUICK
    assert asked(60) is Standing.SLOW
    for _ in range(30):
        asked(0.1)
    assert budget.standing() is Standing.QUICK
    hanging = budget.begin(now[0])
    budget.begun(hanging)
    now[0] += 2
    assert budget.standing() is Standing.SLOW
