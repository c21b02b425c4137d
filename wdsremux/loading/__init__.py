"""From a converted split to a training loop: order -> reader -> augment -> backend -> loader."""
