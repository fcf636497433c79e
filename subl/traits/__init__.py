"""What a bias is."""
