"""AWS Batch: `job_api` answers requests about jobs, `resource_api` those about queues and compute environments.

`engine` is the state machine of jobs, without I/O; a `runner` does the actions that it returns.
"""
