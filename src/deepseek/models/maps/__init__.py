"""Networks that return a vector for each place of a picture or volume."""
