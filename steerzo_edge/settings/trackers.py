"""The trackers that a profile can name."""

from typing import Annotated

from pydantic import Field

from steerzo_edge.trackers.mlflow import MlflowConfig
from steerzo_edge.trackers.tensorboard import TensorBoardConfig
from steerzo_edge.trackers.wandb import WandbConfig

TrackerConfig = Annotated[TensorBoardConfig | MlflowConfig | WandbConfig, Field(discriminator="kind")]
