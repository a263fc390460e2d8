"""What runs inside the container: a command-line program around the user's function.

The folder is copied into every image as the package ``cloudknot_worker``, so it imports the standard library, boto3
and cloudpickle only, and its own modules relatively. The client imports ``wire`` and ``s3`` from here, so that
both sides of the wire share one definition of it.
"""
