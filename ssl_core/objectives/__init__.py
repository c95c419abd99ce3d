"""Step 3 of 12: features to one loss per privacy unit; one method a file."""
