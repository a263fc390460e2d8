"""The client of container registries over real sockets: transfers, failures, logins, and other tools."""
