"""IAM: users, groups, roles, instance profiles and policies. `api` answers calls."""
