"""SOURCE -> the files of each split: given.py a file or glob, listing.py a folder, builder.py a Hub id or a card."""
