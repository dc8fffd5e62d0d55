"""What people label, taken over from and handed to the tools that they label with."""
