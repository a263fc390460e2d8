"""Progress bars, stages and tables for a waiting user.

All numbers come from the caller. This folder reads no S3, calls no AWS service and knows no elements or resources. It
knows only Batch's names for the states of a job (`cloudknot.display.progress`).
"""
