"""Maps, elements and jobs can be awaited. The jobs run on the embedded cloud."""

import asyncio
import threading

import pytest

import cloudknot as ck


def square(x):
    return x * x


def test_maps_elements_and_jobs_can_be_awaited(process_knot_of, cloud):
    async def main():
        future = process_knot_of(square).map([5, 6])
        later = ck.BatchJob(future.job.job_id, cloud=cloud)
        return await asyncio.gather(future, future[1], future.job, later, later.reduce(sum))

    assert asyncio.run(main()) == [[25, 36], 36, [25, 36], [25, 36], 61]


def pass_gate(address):
    import socket

    socket.create_connection(address).recv(1)
    return "passed"


@pytest.mark.parametrize("select", [lambda future: future, lambda future: future[0]], ids=["map", "element"])
def test_wait_that_ends_takes_no_wakeup_from_another_wait(process_knot_of, cloud, gate, select):
    async def main():
        future = select(process_knot_of(pass_gate).map([gate.address]))
        first_ended = threading.Event()
        first = asyncio.ensure_future(future)
        first.add_done_callback(lambda _: first_ended.set())
        await asyncio.sleep(0.1)
        # The callbacks are called in this order, so the second wait is woken after the first has ended.
        future.add_done_callback(lambda _: first_ended.wait(60))
        second = asyncio.ensure_future(future)
        await asyncio.sleep(0.1)
        gate.open()
        return await asyncio.wait_for(asyncio.gather(first, second), 120)

    results = asyncio.run(main())
    assert results in (["passed", "passed"], [["passed"], ["passed"]])


def test_awaiting_unknown_job_raises_resource_does_not_exist(cloud):
    async def main():
        await ck.BatchJob("none", cloud=cloud)

    with pytest.raises(ck.ResourceDoesNotExistException, match="cloudknot has no job 'none'"):
        asyncio.run(main())
