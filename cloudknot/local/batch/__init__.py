"""AWS Batch in the embedded cloud: `job_api` answers requests about jobs, `resource_api` the rest.

`engine` is the state machine of jobs, without I/O. `job_store` and `catalog` keep jobs and resources in a database. A
`runner` performs the actions that the engine returns.
"""
