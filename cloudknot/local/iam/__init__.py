"""IAM: who signed a request, and whether that principal's policies allow it.

The owner's key may do everything. Every other key belongs to a user or a role and is held to their policies, which are
read by IAM's own protocol. moto's enforcement is not used: it knows no Conditions, and does not see the job routes.
"""
