"""Deep feature synthesis: many related tables in, one feature table out, each row as of its own cut-off time."""
