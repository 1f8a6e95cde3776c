"""What is known of one optimizer, parameter or model; weak, and gone with it."""
