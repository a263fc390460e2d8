"""Progress bars, stages and tables, which a person sees while waiting.

The numbers come from the caller: nothing here reads S3, asks AWS, or knows elements and resources. Of AWS it knows
only Batch's names for the states of a job (`cloudknot.display.progress`).
"""
