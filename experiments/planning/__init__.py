"""What a full-size training would cost: arithmetic and traffic of its steps, and machines."""
