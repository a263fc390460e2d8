"""Check cloudknot on a real account: `cloudknot selftest` uses every part once, removes it all, and writes a report.

`plan` has the names and the cost, `check` the steps, `removal` and `inventory` the end, and `report` the file. `job`
runs in the jobs, and `second_session` in a process of its own.
"""
