"""Programs that tests host: each does what a message, or its name, says."""
