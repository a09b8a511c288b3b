"""Tables of transactions and transfers on disk, and the training set among them."""
