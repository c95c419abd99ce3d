"""How good an encoder is for a site's own labels; computed and kept inside the site (ruling 27)."""
