"""What is baked in: base.py says what a recipe is, making.py finds one; ours are in builtin.py, users' run in user.py.

Nothing is re-exported here: whoever decorates a function in a script must not load what converts.
"""
