//! Nova's versioned objects: the primitive form without loss, and typed views of it.
