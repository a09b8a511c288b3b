"""What a transaction would do, asked of a node before it is mined."""
