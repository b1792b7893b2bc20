"""The lab: its configuration, its git repository, and the guard at its door."""
