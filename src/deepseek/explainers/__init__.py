"""What a model's answers hang on."""
