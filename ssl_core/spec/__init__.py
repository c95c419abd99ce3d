"""What a study plan may say of its data, encoder and pretext task, and which of them go together."""
