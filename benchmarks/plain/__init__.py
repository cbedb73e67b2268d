"""The plain trainer: the recipe in the most obvious PyTorch, on one process.

It was written from the recipe's description alone, without reading trainer/train_gpt.py. It serves twice:
benchmarks.trainer measures the trainer against it, and the tests compare weights, losses and bytes with it.
It takes the trainer's environment variables and prints the step lines and final lines of its log.
"""
