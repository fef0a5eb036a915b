"""Cooperative training and latent space data augmentation for cardiac MR segmentation (C)."""
