"""From a site file to a shard set: polite, durable, and safe against what a page says."""
