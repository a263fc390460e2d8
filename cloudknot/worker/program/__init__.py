"""The user's program in a job: load it, and give its modules their names."""
