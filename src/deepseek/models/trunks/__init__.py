"""Trunks: what works on a row's vector after the encoders, one family a file."""
