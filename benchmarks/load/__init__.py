"""What the benchmarks of serving share: requests at an open rate, and a server on a core of its own."""
