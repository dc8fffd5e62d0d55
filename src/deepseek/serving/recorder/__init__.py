"""The process beside a server that reads its journal: it feeds the watch and experiments, and its keeper begins it anew when it dies."""
