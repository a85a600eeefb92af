"""Layers of networks, batched over replicas: what encoders and heads are made of."""
