"""CloudFormation of the embedded cloud: stacks that are made, changed, rolled back and deleted as on AWS.

moto's own CloudFormation makes resources behind the services' backs, all at once, leaves them when a creation fails or
a stack is deleted, and refuses nothing. Here a stack is worked on by a thread, with the services' public APIs and the
key of whoever asked for it: what a service refuses is a failed resource, and what failed is rolled back.
"""

from cloudknot.local.cloudformation.api import CloudFormation

__all__ = ["CloudFormation"]
