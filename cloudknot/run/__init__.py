"""Maps: their submission, the collection of their results, and their jobs in later sessions."""
