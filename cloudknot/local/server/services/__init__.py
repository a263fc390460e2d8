"""The control plane of the embedded cloud: IAM, STS, EC2's networks and ECR, with their resources in its database.

Requests and answers follow botocore's descriptions of the services. An operation runs in one transaction of the
database: a resource of which a client has an answer survives the end of the server.
"""
