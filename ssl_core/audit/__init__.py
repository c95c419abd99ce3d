"""Does the code that is installed here keep what it says? Attacks on the product's own private step, on synthetic patients."""
