"""Places to look for passages beside indexes: the web, HTTP interfaces, feeds (port `Source`)."""
