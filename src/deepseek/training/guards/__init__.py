"""What watches over a run while it trains: numbers that break, and what broke them; standstills; Ctrl-C."""
