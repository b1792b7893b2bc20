"""Pure values and pure rules: no input, no output, no clock, nothing of ours imported but the errors."""
