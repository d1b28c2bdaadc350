"""antom-payments."""
