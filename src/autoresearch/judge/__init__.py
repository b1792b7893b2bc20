"""The judge: pure rules from evidence to verdict, or to one more run."""
