"""The packages of a job: their complete lock, the wheels of local packages, and their installation."""
