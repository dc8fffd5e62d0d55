"""What a recipe leaves open and no measurement decides: the network, the way to train it, and what pre-trained parts ask for."""
