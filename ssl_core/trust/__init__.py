"""Who belongs and what they signed: identities, signed envelopes, the roster, certificates, random streams."""
