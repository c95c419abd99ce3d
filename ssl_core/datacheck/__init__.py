"""What a hospital is told of its own files before it approves a study; nothing in here has a message type."""
