"""Generated from proto/antom_payments/v1 by `make proto`. Never edited."""
