"""What `deepseek ingest` has taken in: the folder and its manifests, the columns of its parts, and the source that reads and joins them."""
