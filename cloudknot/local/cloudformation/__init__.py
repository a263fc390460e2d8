"""CloudFormation in the embedded cloud: stacks that are created, updated, rolled back and deleted as on AWS.

`api` answers requests. A thread works on each stack with the public APIs of the services and with the caller's key.
"""

# A refused call is a failed resource, and names, quotas and permissions are checked by their services.
