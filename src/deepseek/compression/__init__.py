"""Compression: trained networks made smaller and faster, and what that costs measured before anything is kept."""
