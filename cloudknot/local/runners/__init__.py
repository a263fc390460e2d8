"""The execution of a job's attempts, as processes of this machine or as containers."""
