"""Find and delete all of cloudknot's resources in one account and region."""
