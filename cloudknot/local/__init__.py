"""Wall 4: the embedded cloud; the only code that imports moto, waitress and virtualenv.

``LocalCloud`` is a `Cloud` whose endpoint is an AWS-compatible server on loopback, in a process of its own::

    client side     cloud       LocalCloud: find the running cloud, start it, stop it
                    images      an image as a directory with its own virtual environment
    server process  server      HTTP, signatures, life and end of the process
                    batch       the Batch job routes; all else goes to moto
                    engine      what AWS Batch does with jobs, as a state machine without I/O
                    process_runner, warm_parent   attempts as processes
                    injector, faulty_runner   faults, off unless a test sets them
                    logs        their output, to CloudWatch Logs

Importing this package, or ``cloudknot.local.cloud``, loads none of moto, waitress and boto3.
"""

from cloudknot.local.choices import CloudStatus
from cloudknot.local.cloud import LocalCloud
from cloudknot.local.faults.fault import Faults, Kill
from cloudknot.local.faults.switches import FaultSwitches

__all__ = ["CloudStatus", "FaultSwitches", "Faults", "Kill", "LocalCloud"]
