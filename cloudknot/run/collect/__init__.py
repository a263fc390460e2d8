"""Collection: turn packs in S3 into results of futures, and jobs that ended without one into errors."""
