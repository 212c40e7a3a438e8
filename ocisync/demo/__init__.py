"""The story of ocisync, told on the sandbox with the real command line and the real agent. Every step checks itself."""
