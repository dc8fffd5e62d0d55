"""Keras 3 models as parts of networks, and the model that articles call `build_deepseek_model`; needs the extra `keras`."""
