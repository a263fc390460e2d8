"""The format of everything that client and worker exchange: keys, manifest, envelopes and packs. No I/O here."""
