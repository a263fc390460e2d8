"""CloudWatch Logs: `store` keeps groups, streams and events in a database, and `api` answers requests."""
