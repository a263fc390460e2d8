"""The `cloudknot` command, run as a user runs it."""
