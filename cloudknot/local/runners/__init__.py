"""Runners of the embedded Batch: `process` executes attempts as processes of this machine, `docker` as containers.

Both implement `cloudknot.local.batch.runner.Runner`. They receive tasks, and know nothing of jobs and retries.
"""
