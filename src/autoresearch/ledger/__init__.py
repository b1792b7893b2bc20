"""The ledger: the durable record of every campaign."""
