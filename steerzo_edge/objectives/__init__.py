"""Losses and metrics: likelihoods, error rates, scored answers, evaluation."""
