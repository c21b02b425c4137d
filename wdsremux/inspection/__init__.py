"""Looking at a converted set: what it holds, and whether it still is what its manifest says."""
