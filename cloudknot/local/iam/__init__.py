"""Who asks the embedded cloud, and what they may do: keys, policies, and the accesses that a request needs.

The owner's key may do everything. Every other key is a user's or a role's, and is held to their policies, which are
read by IAM's own protocol. moto's enforcement is not used: it knows no Conditions, and does not see the job routes.
"""
