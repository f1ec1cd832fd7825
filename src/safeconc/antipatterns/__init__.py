"""Each vice beside its cure: the leak itself, runnable."""
