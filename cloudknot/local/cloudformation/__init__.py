"""CloudFormation in the embedded cloud: stacks that are created, updated, rolled back and deleted as on AWS.

`api` answers requests. A thread works on each stack with the public APIs of the services and with the caller's key.
"""

# moto's own CloudFormation creates all resources within the request, bypassing the services. It never rolls back,
# leaves queues and networks behind when a stack is deleted, and refuses nothing. With it, no test could see a stack
# fail. Here a refused call is a failed resource, and names, quotas and permissions are checked by their services.
