"""What comes and what goes: rows from JSON, Arrow and forms, each field of its type; answers and replies; outcomes as clients tell them."""
