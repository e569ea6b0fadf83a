"""What several tests need: oracles, damaged files, workers for other processes, places."""
