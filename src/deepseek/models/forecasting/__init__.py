"""Networks that forecast: from a window of the past, and what is known of the future, to the next steps."""
