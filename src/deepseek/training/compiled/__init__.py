"""The training step compiled as a whole: traced into one graph over flat weights, several steps a call, replayed as CUDA graphs."""
