"""The service's database: tables, transactions, and one module a subject to read and write it."""
