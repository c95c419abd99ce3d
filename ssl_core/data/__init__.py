"""Step 1 of 12: declared files become `Patients`, one reader per modality. Nothing is fitted on private data."""
