"""The sub-commands: each file builds the objects its command needs and prints what they return."""
