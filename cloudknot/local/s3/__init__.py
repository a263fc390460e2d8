"""Amazon S3 in the embedded cloud: a store of objects on the disk, and S3's protocol in front of it."""
