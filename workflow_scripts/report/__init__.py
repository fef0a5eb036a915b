"""Tables, ledger and figures, made from files only."""
