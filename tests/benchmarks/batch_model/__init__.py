"""A discrete-event model of AWS Batch and AWS Lambda. It is a model, and no measurement.

The model repeats figures 2 and 3 of the cloudknot paper, then shows the effect of `chunksize` on them. cloudknot's own
code decides the chunk sizes and children (`submission`). AWS's part is simulated (`simulation`, `pywren`) with named
constants, each with its source (`constants`). The points that the paper published are in `paper`.

    A. Richie-Halford and A. Rokem, "Cloudknot: A Python Library to Run your Existing Code on AWS Batch", SciPy 2018,
    doi:10.25080/Majora-4af1f417-001
"""
