"""YAML as kubectl reads it: cases, what the Go libraries answer to them, and the comparison with our reader."""
