"""S3 requests: small ones, streamed reads, uploads and retries. Client and worker share all modules but `client`."""
