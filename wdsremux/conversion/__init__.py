"""From a source to a converted split: source -> plan -> bake (a task at a time) -> table and manifest."""
