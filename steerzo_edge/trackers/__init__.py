"""Trackers: copies of a run's numbers in TensorBoard, MLflow or Weights & Biases, by their own clients."""
