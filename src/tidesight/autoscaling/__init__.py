"""How many instances there should be: rules that take the time as an argument and hold no state."""
