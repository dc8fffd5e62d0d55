"""Where a run can go on from: checkpoints written beside the training, whole or in parts, read with their hashes, kept and dropped."""
