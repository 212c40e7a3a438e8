"""Keys and signatures. The only package that touches cryptographic libraries; no network, no clock, no policy."""
