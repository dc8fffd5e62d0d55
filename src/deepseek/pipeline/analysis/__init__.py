"""What is found out about finished runs from their rows: predictions and what they are worth, slices, examples, importance, differences."""
