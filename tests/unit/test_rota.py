import asyncio
import itertools
import random

import pytest

from reconciler.health.rota import Rota
from reconciler.health.standing import Result, choose_interval_s, judge
from reconciler.model import Health

from .fake_time import run

pytestmark = pytest.mark.slow


class Job:
    """Takes a while each time, and notes when it was begun."""

    def __init__(self, interval_s=2.0, takes_s=0.0):
        self.interval_s = interval_s
        self.takes_s = takes_s
        self.begun = []
        self.ended = 0

    async def run(self):
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        self.ended += 1

    @property
    def gaps(self):
        return [later - earlier for earlier, later in itertools.pairwise(self.begun)]


def run_for(duration_s, jobs, *, places=100, draw=None, then=None):
    """Follow the jobs for a while; return the start of that time and what `then` returns."""
    chance = random.Random(1)

    async def follow(loop):
        rota = Rota(loop, places, draw or chance.random)
        rota.follow(jobs)
        began = loop.time()
        await asyncio.sleep(duration_s)
        returned = then(rota) if then else None
        await rota.close()
        return began, returned

    return run(follow)


def test_no_interval_is_longer_than_asked_and_none_much_shorter():
    jobs = [Job(interval_s) for interval_s in (0.5, 2.0, 60.0) for _ in range(50)]
    run_for(600.0, jobs)
    for job in jobs:
        assert all(gap <= job.interval_s + 1e-6 for gap in job.gaps)
        assert job.gaps[0] >= 0.1 * job.interval_s - 1e-6
        assert all(gap >= 0.9 * job.interval_s - 1e-6 for gap in job.gaps[1:])
        assert len(job.begun) >= 600 / job.interval_s


@pytest.mark.parametrize("interval_s", [0.5, 2.0, 3600.0])
def test_a_new_job_is_run_within_a_second(interval_s):
    jobs = [Job(interval_s) for _ in range(500)]
    began, _ = run_for(1.1, jobs)
    first = [job.begun[0] - began for job in jobs]
    assert max(first) <= min(interval_s, 1.0)
    assert min(first) >= 0


def test_jobs_that_begin_together_do_not_stay_together():
    jobs = [Job(60.0) for _ in range(6000)]
    began, _ = run_for(600.0, jobs)
    last_minute = [at - began - 540 for job in jobs for at in job.begun if at - began >= 540]
    a_second = [sum(int(at) == second for at in last_minute) for second in range(60)]
    # 105 a second, if they were spread evenly.
    assert max(a_second) < 300
    assert min(a_second) > 20


def test_the_longest_draws_keep_the_interval_too():
    for drawn in (0.0, 1.0):
        job = Job(2.0)
        run_for(20.0, [job], draw=lambda drawn=drawn: drawn)
        assert max(job.gaps) <= 2.0 + 1e-6


def test_a_slow_job_delays_no_other():
    slow, quick = [Job(2.0, takes_s=2.0) for _ in range(50)], [Job(2.0) for _ in range(50)]
    run_for(100.0, slow + quick)
    assert all(gap <= 2.0 + 1e-6 for job in quick for gap in job.gaps)
    assert all(gap <= 2.0 + 1e-6 for job in slow for gap in job.gaps)


def test_no_more_run_at_once_than_there_are_places():
    running, most = 0, 0

    class Counted(Job):
        async def run(self):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await super().run()
            running -= 1

    jobs = [Counted(2.0, takes_s=1.0) for _ in range(40)]
    run_for(60.0, jobs, places=10)
    assert most == 10
    # Each waits for a place as long as the others: 10 places, 40 jobs of a second.
    counts = [len(job.begun) for job in jobs]
    assert min(counts) >= 14
    assert max(counts) - min(counts) <= 2


def test_the_lag_says_how_late_checks_are():
    def measure(rota):
        return rota.measure_lag_s()

    _, lag_s = run_for(30.0, [Job(2.0, takes_s=1.0) for _ in range(10)], places=10, then=measure)
    assert lag_s == pytest.approx(0.0, abs=1e-3)
    _, lag_s = run_for(30.0, [Job(2.0, takes_s=1.0) for _ in range(40)], places=10, then=measure)
    assert lag_s > 1.0
    _, lag_s = run_for(30.0, [Job(2.0, takes_s=99.0) for _ in range(2)], places=1, then=measure)
    assert lag_s > 25.0


def test_nothing_is_late_where_nothing_is_to_be_done():
    _, lag_s = run_for(1.0, [], then=lambda rota: rota.measure_lag_s())
    assert lag_s == 0.0


def test_a_job_that_is_left_out_ends_and_the_others_keep_their_time():
    async def follow(loop):
        rota = Rota(loop, 10, lambda: 1.0)
        left_out, kept, new = Job(2.0, takes_s=1.0), Job(2.0), Job(2.0)
        rota.follow([left_out, kept])
        await asyncio.sleep(1.5)
        rota.follow([kept, new])
        await asyncio.sleep(20.0)
        await rota.close()
        return left_out, kept, new

    left_out, kept, new = run(follow)
    assert (len(left_out.begun), left_out.ended) == (1, 0)
    assert len(kept.begun) >= 10
    assert max(kept.gaps) <= 2.0 + 1e-6
    assert new.ended >= 10


def test_following_again_and_again_delays_nothing():
    async def follow(loop):
        rota = Rota(loop, 10)
        jobs = [Job(1.0) for _ in range(5)]
        for _ in range(200):
            rota.follow(jobs)
            await asyncio.sleep(0.1)
        await rota.close()
        return jobs

    for job in run(follow):
        assert len(job.begun) >= 19
        assert max(job.gaps) <= 1.0 + 1e-6


def test_a_job_that_breaks_is_logged_and_run_again(caplog):
    class Broken(Job):
        async def run(self):
            await super().run()
            raise RuntimeError("oh")

    job = Broken(1.0)
    run_for(5.0, [job])
    assert job.ended >= 4
    assert "a health check ended by a fault of its own" in caplog.text
    assert "RuntimeError: oh" in caplog.text


def test_closing_ends_what_runs():
    async def follow(loop):
        rota = Rota(loop, 10)
        job = Job(100.0, takes_s=50.0)
        rota.follow([job])
        await asyncio.sleep(2.0)
        await rota.close()
        return job, len(asyncio.all_tasks())

    job, tasks = run(follow)
    assert (len(job.begun), job.ended, tasks) == (1, 0, 1)


def test_jobs_that_run_are_served_before_more_are_begun():
    running, most = 0, 0

    class Stepwise(Job):
        async def run(self):
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            self.ended += 1

    jobs = [Stepwise(100.0) for _ in range(2000)]
    run_for(50.0, jobs, places=2000, draw=lambda: 0.0)
    assert [job.ended for job in jobs] == [1] * 2000
    assert most < 200


class Dying:
    """Answers at once until it dies, and then never again; notes when it is down."""

    def __init__(self, health, dies_at):
        self.health = health
        self.dies_at = dies_at
        self.standing = None

    @property
    def interval_s(self):
        return choose_interval_s(self.standing, self.health)

    async def run(self):
        loop = asyncio.get_running_loop()
        is_ok = loop.time() < self.dies_at
        await asyncio.sleep(0.0 if is_ok else self.health.timeout_s)
        self.standing = judge(self.standing, Result(is_ok, "", 0.0), self.health, loop.time())


@pytest.mark.parametrize(
    ("fall", "timeout_s", "promised_s"),
    [(1, 1.0, 3.0), (2, 1.0, 4.0), (3, 1.0, 6.0), (3, 0.1, 6.0)],
)
def test_a_dead_backend_is_down_no_later_than_promised(fall, timeout_s, promised_s):
    health = Health(interval_s=2.0, timeout_s=timeout_s, fall=fall)
    jobs = [Dying(health, dies_at=1010.0 + number / 100) for number in range(500)]
    run_for(40.0, jobs, places=500)
    delays = [job.standing.since - job.dies_at for job in jobs]
    assert not any(job.standing.is_up for job in jobs)
    assert max(delays) <= promised_s + 1e-6
    # It is no accident: some take nearly as long.
    assert max(delays) > promised_s - 0.6
