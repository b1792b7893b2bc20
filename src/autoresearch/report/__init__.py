"""Reports: what a campaign learnt, for people."""
