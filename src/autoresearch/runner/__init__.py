"""The runner: one run on one slot, from request to outcome."""
