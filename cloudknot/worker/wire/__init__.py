"""The formats that client and worker share: keys, manifest, envelopes and packs. No I/O here."""
