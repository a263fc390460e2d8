"""EC2: networks, security groups, launch templates, and the offers of instances. `api` answers calls."""
