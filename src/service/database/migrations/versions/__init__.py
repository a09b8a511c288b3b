"""Alembic finds the migrations here, oldest first."""
