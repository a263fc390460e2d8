"""Maps, elements and jobs can be awaited. The jobs run on the embedded cloud."""

import asyncio

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


def test_awaiting_unknown_job_raises_resource_does_not_exist(cloud):
    async def main():
        await ck.BatchJob("none", cloud=cloud)

    with pytest.raises(ck.ResourceDoesNotExistException, match="cloudknot has no job 'none'"):
        asyncio.run(main())
