"""A music shop that comes along: what the demo, the tests and the benches crawl."""
