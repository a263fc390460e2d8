"""All of cloudknot's resources in one account and region, and their removal."""
