"""IAM: the signature of a request, its principal, and the permissions that the principal's policies give.

The owner's key may do everything. Every other key belongs to a user or a role, and the policies of that principal
apply to its requests.
"""
