"""What every trained system shares: devices, ranks, batches, state. The loops stay in the systems.

Start with `smoke.py`: a complete training in one file that uses every piece.
"""
