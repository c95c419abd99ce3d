"""Step 13: an encoder and a site's own few labels become the site's own model, which never leaves it."""
