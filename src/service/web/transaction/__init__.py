"""What the page and the report of one transaction show."""
