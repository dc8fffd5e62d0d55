"""From a recipe's data section to prepared rows, stage by stage: read, looked at, split, checked for twins, prepared; cached by content."""
