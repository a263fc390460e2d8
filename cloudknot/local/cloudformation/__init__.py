"""CloudFormation: stacks that are made, changed, rolled back and deleted as on AWS. `api` answers requests.

moto's own CloudFormation makes resources behind the services' backs, all at once, leaves them when a creation fails or
a stack is deleted, and refuses nothing. Here a thread works on a stack with the services' public APIs and the
caller's key: a resource that a service refuses has failed, and a failed operation is rolled back.
"""
