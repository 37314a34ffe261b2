"""Fine-tune, evaluate and quantise a detector; PyTorch is imported only while a command needs it."""
