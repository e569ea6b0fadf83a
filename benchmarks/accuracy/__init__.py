"""What the benchmarks of accuracy share: frames for other programs, and the page of their results."""
