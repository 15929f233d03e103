"""The engines: what computes a reply. Each module implements `ports.Engine` on one library."""
