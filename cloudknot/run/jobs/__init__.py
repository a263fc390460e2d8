"""Jobs: the status, logs, retries and reductions of submitted maps, in any session."""
