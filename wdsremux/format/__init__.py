"""What lies on disk, and nothing else: the manifest, the sample table, tar members and DALI's index."""
