"""The worker: the command-line program that calls the user's function in the job's container.

Every image contains this folder as the package ``cloudknot_worker``. So it may import only the standard library, boto3
and cloudpickle, and its own modules only relatively. The client imports ``wire`` and ``s3`` from here, so both sides
share one definition of formats and keys.
"""
