"""Screening: what a transaction would do, decided on before it is mined."""
