"""`FaultyCloud`, an embedded cloud whose server can inject faults."""

import cloudknot as ck


class FaultyCloud(ck.LocalCloud):
    """A `LocalCloud` that starts the server of this folder. `switches.FaultSwitches` controls it."""

    _server = "tests.faulty_cloud"
