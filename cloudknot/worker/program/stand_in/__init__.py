"""The folder of a stand-in for cloudknot. See `cloudknot.worker.program.own_modules`."""
