"""Analysis: what a sweep's figures amount to. Computes, and draws nothing."""
