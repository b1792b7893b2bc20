"""Ready-made labs, copied by `autoresearch init`."""
