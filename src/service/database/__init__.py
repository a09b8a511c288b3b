"""The service's database: tables, transactions, and one module per subject with its queries."""
