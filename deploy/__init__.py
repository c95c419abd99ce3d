"""How Choral runs on machines: processes, a whole federation on one machine, the demo and its report."""
