"""Planning and running: fingerprints, the store, stages, run folders."""
