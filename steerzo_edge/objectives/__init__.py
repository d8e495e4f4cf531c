"""Objectives and metrics: likelihood, error rate, scores of generated answers, evaluation."""
