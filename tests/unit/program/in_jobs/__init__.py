"""Programs that run in a job, in an interpreter of its own."""
