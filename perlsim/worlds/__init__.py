"""Route-based worlds: OpenDRIVE lane graphs, route files and scripted scenario families."""
