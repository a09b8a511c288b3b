"""The tables of the first release, which `Database.migrate` makes from `tables.py`."""

revision = "first_release"
down_revision = None


def upgrade() -> None:
    """Do nothing: a new database is made from the tables, and none is older."""
