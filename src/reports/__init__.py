"""What reports share: one page, one style of pictures, Markdown."""
