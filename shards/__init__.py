"""What a sample is, and sets of them: written exactly once, indexed, read at random, checked and split."""
