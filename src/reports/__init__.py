"""What HTML reports share: one page, one style of pictures."""
