"""`make demo`: everything end to end on a real node, ending with text read from a picture."""
