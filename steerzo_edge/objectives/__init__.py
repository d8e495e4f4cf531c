"""Objectives and metrics: likelihood, error rate, scores of generated answers, evaluation."""

from steerzo_edge import model as model  # before anything imports `transformers`
