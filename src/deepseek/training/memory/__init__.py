"""What training takes of memory: followed operation by operation, known for any batch, and traded for time."""
