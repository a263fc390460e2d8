"""Runners of the embedded Batch: `process` runs attempts as processes of this machine, `docker` as containers.

Both are a `cloudknot.local.batch.runner.Runner`, and know nothing of jobs, only of tasks.
"""
