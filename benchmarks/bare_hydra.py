"""The smallest app in hydra: what --help and --cfg cost there, whatever the app does."""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> None:
    """Does nothing."""


if __name__ == "__main__":
    main()
