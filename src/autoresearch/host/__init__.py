"""What the operating system gives us: clocks, processes, hardware, files. No notion of a campaign."""
