"""A converted split in one picture, for `wdsremux preview`: shown.py gathers what is shown, figure.py draws it."""
