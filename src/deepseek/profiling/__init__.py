"""What a table holds: each column measured as what it is, what columns have to do with each other, how two tables differ."""
