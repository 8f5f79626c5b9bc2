"""Request and response bodies: JSON and binary forms to and from bytes in a model's own element types."""
