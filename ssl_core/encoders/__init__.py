"""Step 3 of 12: records to features; one encoder a file."""
